"""How long a series remembers: by how much the dependence of its values widens the variance of their mean.

Requests that met the same queue are not independent. Two estimators, with opposite weaknesses: pairs of
autocovariances follow any shape and wander off in noise, an autoregression is calm and knows few shapes.
"""

import math

import numpy as np
from numpy.typing import NDArray

BATCHES = 512  # an autoregression is fitted to at most so many means of neighbours: long memories stay within its order


def paired_time(series: NDArray[np.float64]) -> float:
    """By how much its autocorrelation widens the variance of a series' mean; at least 1. The series has mean 0.

    The sum of autocovariances is cut by the initial monotone positive sequence of Geyer (Practical Markov Chain Monte
    Carlo, Statistical Science 7, 1992, 3.3): sums of neighbouring pairs, as long as they are positive, never rising.
    """
    n = len(series)
    size = 1 << (2 * n - 1).bit_length()
    spectrum = np.fft.rfft(series, size)
    covariance = np.fft.irfft(spectrum.real**2 + spectrum.imag**2, size)[: n + n % 2] / n
    if covariance[0] <= 0:
        return 1.0
    pairs = covariance.reshape(-1, 2).sum(axis=1)
    ends = np.flatnonzero(pairs <= 0)
    positive = np.minimum.accumulate(pairs[: ends[0]] if len(ends) else pairs)
    return max(1.0, float(2 * positive.sum() / covariance[0] - 1))


def autoregressive_time(series: NDArray[np.float64]) -> float:
    """The same, from an autoregression; below 1 where neighbours make up for each other. The series has mean 0.

    The spectrum at frequency 0 of an AR(p), s² / (1 - sum of coefficients)² (Heidelberger & Welch, A spectral method
    for confidence interval generation, CACM 24, 1981, went the same way with a polynomial). Yule-Walker equations by
    Levinson's recursion; the order is Schwarz's criterion's, which gives independent values order 0 nearly always. The
    coefficients' sum s comes out too small by about (1 + 3 s) / n (Marriott & Pope, Bias in the estimation of
    autocorrelations, Biometrika 41, 1954, for order 1), which is put back, halfway to 1 at most.
    """
    size = len(series)
    variance = float(np.square(series).mean()) if size else 0.0
    if variance <= 0:
        return 1.0
    batch = -(-size // BATCHES)
    n = size // batch
    means = series[: n * batch].reshape(n, batch).mean(axis=1)
    means = means - means.mean()
    order, innovations, total = _fit(means)
    if not order and batch == 1:
        return 1.0
    left = 1 - total
    if total > 0:
        left = max(left - (1 + 3 * total) / n, left / 2)
    return innovations * n / (n - order - 1) / left**2 * batch / (variance * size / (size - 1))


def _fit(series: NDArray[np.float64]) -> tuple[int, float, float]:
    """Order, variance of the innovations and sum of the coefficients of an AR process with mean 0."""
    n = len(series)
    most = min(n // 4, int(10 * math.log10(n)))
    covariance = np.array([float(series[: n - lag] @ series[lag:]) / n for lag in range(most + 1)])
    innovations, coefficients = float(covariance[0]), np.zeros(0)
    best, found = math.inf, (0, 0.0, 0.0)
    for order in range(most + 1):
        if order:
            reflection = float(covariance[order] - coefficients @ covariance[order - 1 : 0 : -1]) / innovations
            coefficients = np.append(coefficients - reflection * coefficients[::-1], reflection)
            innovations *= 1 - reflection * reflection
        if innovations <= 0:  # a series that is foretold exactly
            break
        criterion = n * math.log(innovations) + math.log(n) * order
        if criterion < best:
            best, found = criterion, (order, innovations, float(coefficients.sum()))
    return found


def autocorrelation_time(series: NDArray[np.float64]) -> float:
    """The larger of both estimates, at least 1. The series has mean 0."""
    return max(paired_time(series), autoregressive_time(series))
