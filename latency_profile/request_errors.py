"""Why a request by `requests` got no answer."""

import requests


def reason(error: requests.RequestException) -> str:
    """In a few words: the library's own text holds whole URLs."""
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return "its TLS certificate is not accepted"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return "no usable answer"
