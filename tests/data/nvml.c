/* A libnvidia-ml.so.1 whose numbers are known, for tests of what reads it. Prototypes: NVIDIA's nvml.h.
 *
 * GPU 0 knows everything. Its power is 100 W + 10 W a second, and its energy counter is the integral of that; both count
 * from nvmlInit. GPU 1 has no energy counter and no utilization; FAKE_LOST_MS after nvmlInit it is lost, and a second
 * later it would answer again. FAKE_GPUS says how many there are, FAKE_INIT what nvmlInit returns, FAKE_HANG_MS when
 * GPU 0's driver stops answering, FAKE_MIG divides it. Compiled with -DOLD it is a driver without the newer names.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef unsigned int u32;
typedef unsigned long long u64;
typedef struct { u32 index; } device;
typedef struct { u64 total, free, used; } memory_v1;
typedef struct { u32 version; u64 total, reserved, free, used; } memory_v2;
typedef struct { u32 gpu, memory; } utilization;

enum { OK = 0, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7, LOST = 15 };
static const u64 GIB = 1ull << 30, MIB = 1ull << 20;
static device devices[8];
static double began;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double since(void) { return now() - began; }

static double ms_after(const char *name) { return getenv(name) ? since() * 1000 - atof(getenv(name)) : -1; }

static int state(device *d) {
    double lost = ms_after("FAKE_LOST_MS");
    if (d->index == 0 && ms_after("FAKE_HANG_MS") > 0) sleep(600);
    return d->index == 1 && lost > 0 && lost < 1000 ? LOST : OK;
}

static int put(char *to, u32 size, const char *text) {
    if (strlen(text) >= size) return INSUFFICIENT_SIZE;
    strcpy(to, text);
    return OK;
}

int nvmlInitWithFlags(u32 flags) {
    (void)flags;
    began = now();
    for (u32 i = 0; i < 8; i++) devices[i].index = i;
    return getenv("FAKE_INIT") ? atoi(getenv("FAKE_INIT")) : OK;
}

const char *nvmlErrorString(int code) { return code == 999 ? "Unknown Error" : "an error"; }

int nvmlSystemGetDriverVersion(char *to, u32 size) { return put(to, size, "580.1"); }

int nvmlDeviceGetCount_v2(u32 *count) {
    *count = getenv("FAKE_GPUS") ? (u32)atoi(getenv("FAKE_GPUS")) : 2;
    return OK;
}

int nvmlDeviceGetHandleByIndex_v2(u32 index, device **d) {
    *d = &devices[index];
    return OK;
}

int nvmlDeviceGetUUID(device *d, char *to, u32 size) {
    char text[32];
    snprintf(text, sizeof text, "GPU-%u", d->index);
    return put(to, size, text);
}

int nvmlDeviceGetName(device *d, char *to, u32 size) { return put(to, size, d->index ? "Small" : "Large"); }

int nvmlDeviceGetMemoryInfo(device *d, memory_v1 *m) {
    m->total = 80 * GIB;
    m->used = 5 * GIB + 600 * MIB; /* with the reserve */
    m->free = m->total - m->used;
    return state(d);
}

#ifndef OLD
int nvmlDeviceGetMemoryInfo_v2(device *d, memory_v2 *m) {
    if (m->version != (2u << 24 | sizeof *m)) return 25; /* NVML_ERROR_ARGUMENT_VERSION_MISMATCH */
    m->total = 80 * GIB;
    m->reserved = 600 * MIB;
    m->used = 5 * GIB;
    m->free = m->total - m->reserved - m->used;
    return state(d);
}
#endif

int nvmlDeviceGetMigMode(device *d, u32 *current, u32 *pending) {
    *current = *pending = getenv("FAKE_MIG") ? 1 : 0;
    return d->index ? NOT_SUPPORTED : OK;
}

int nvmlDeviceGetEnforcedPowerLimit(device *d, u32 *mw) {
    *mw = 350000;
    return d->index ? NOT_SUPPORTED : OK;
}

int nvmlDeviceGetTotalEnergyConsumption(device *d, u64 *mj) {
    double t = since();
    *mj = (u64)(7e6 + 1e3 * (100 * t + 5 * t * t));
    return d->index ? NOT_SUPPORTED : state(d);
}

int nvmlDeviceGetPowerUsage(device *d, u32 *mw) {
    *mw = d->index ? 50000 : (u32)(1e3 * (100 + 10 * since()));
    return state(d);
}

int nvmlDeviceGetUtilizationRates(device *d, utilization *u) {
    u->gpu = 37;
    u->memory = 12;
    return d->index ? NOT_SUPPORTED : state(d);
}

int nvmlDeviceGetTemperature(device *d, int sensor, u32 *c) {
    *c = sensor == 0 ? 45 : 99;
    return state(d);
}

int nvmlDeviceGetClockInfo(device *d, int kind, u32 *mhz) {
    *mhz = kind == 1 ? 1980 : kind == 2 ? 2619 : 1; /* SM, memory */
    return state(d);
}

#ifdef OLD
int nvmlDeviceGetCurrentClocksThrottleReasons(device *d, u64 *bits) {
#else
int nvmlDeviceGetCurrentClocksEventReasons(device *d, u64 *bits) {
#endif
    *bits = d->index ? 0x1 : 0x4;
    return state(d);
}
