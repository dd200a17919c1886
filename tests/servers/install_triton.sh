#!/bin/sh
# Makes .venvs/triton from nothing: Triton 2.51 with its Python backend, as nvidia-pytriton carries them, and the NumPy
# that this backend works with. 250 MB on disk. Safe to run again: what is there already is left as it is.
#
# PYTHON: the interpreter, 3.11 or 3.12, with its shared library (libpython3.x.so.1.0), which the backend loads.
set -eu
cd "$(dirname "$0")/../.."

pytriton=0.7.0
venv=.venvs/triton
python=$venv/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK=1

[ -x "$python" ] || "${PYTHON:-python3}" -m venv "$venv"
packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
minor=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
server=$packages/pytriton/tritonserver

if [ ! -d "$packages/nvidia_pytriton-$pytriton.dist-info" ]; then
    # Without the client library that it also asks for; with NumPy 2 the backend's process dies at its first request.
    "$python" -m pip install --quiet --no-deps "nvidia-pytriton==$pytriton" "numpy>=1.26,<2" || {
        echo "install_triton.sh: no Triton: pip found no nvidia-pytriton $pytriton with NumPy 1.26 for Python $minor" >&2
        exit 1
    }
fi

# The backend folder that Triton wants has the stub of one version of Python beside the library.
if [ ! -x "$venv/backends/python/triton_python_backend_stub" ]; then
    rm -rf "$venv/backends.part"
    mkdir -p "$venv/backends.part"
    cp -r "$server/backends/python" "$venv/backends.part/python"
    cp "$server/python_backend_stubs/$minor/triton_python_backend_stub" "$venv/backends.part/python/"
    library=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')
    if LD_LIBRARY_PATH=$packages/nvidia_pytriton.libs:$library \
        ldd "$venv/backends.part/python/triton_python_backend_stub" | grep "not found"; then
        echo "install_triton.sh: Triton's Python backend lacks that library (Debian: libpython$minor)" >&2
        exit 1
    fi
    rm -rf "$venv/backends"
    mv "$venv/backends.part" "$venv/backends"
fi
