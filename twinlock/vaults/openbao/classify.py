"""The one function that turns whatever goes wrong with OpenBao into one of the five classes."""

import errno
import ssl

import aiohttp

from twinlock.keys.ports import Misconfigured, VaultFailure
from twinlock.vaults.administration import BadKeyUri
from twinlock.vaults.openbao.reasons import CLASSIFIER, VERDICTS, Reason, VaultFault

_NETWORK = frozenset(
    {
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.EPIPE,
        errno.ETIMEDOUT,
        errno.EHOSTUNREACH,
        errno.EHOSTDOWN,
        errno.ENETUNREACH,
        errno.ENETDOWN,
    }
)
# What a connection says that ended in the middle of the handshake.
_CUT_OFF = ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError


def classify(fault: Exception, uri: str) -> VaultFailure:
    """Turn whatever went wrong into one of the five classes; an unknown answer is `Unclear`."""
    if isinstance(fault, BadKeyUri):
        return Misconfigured(fault.detail, uri=uri, raw="bad-uri", classifier=CLASSIFIER)
    found = fault if isinstance(fault, VaultFault) else VaultFault(_reason(fault), _shown(fault))
    verdict = VERDICTS[found.reason]
    # Why bytes do not decrypt is nobody's business (law 2), and neither is how the vault has put it.
    raw = "" if found.reason is Reason.NOT_DECRYPTED else found.raw
    return verdict.kind(
        verdict.detail,
        uri=uri,
        raw=f"{found.reason.value} {raw}".strip(),
        request_id=found.request_id,
        classifier=CLASSIFIER,
        exact=verdict.exact,
        counts=verdict.counts,
    )


def _reason(fault: Exception) -> Reason:
    """Say what an exception of the HTTP client means; a class stands before its bases."""
    if isinstance(fault, TimeoutError):
        return Reason.NO_ANSWER
    if isinstance(fault, aiohttp.ClientConnectorDNSError):
        return Reason.UNKNOWN_HOST
    if isinstance(fault, aiohttp.ClientConnectorCertificateError):
        return Reason.CERTIFICATE
    if isinstance(fault, aiohttp.ClientConnectorSSLError):
        return _of_tls(fault.os_error)
    if isinstance(fault, aiohttp.ClientOSError | OSError):
        return Reason.UNREACHABLE if _is_network(fault) else Reason.OURS
    if isinstance(fault, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError):
        return Reason.UNREACHABLE
    return Reason.UNKNOWN


def _of_tls(fault: OSError) -> Reason:
    if isinstance(fault, ssl.SSLCertVerificationError):
        return Reason.CERTIFICATE
    return Reason.UNREACHABLE if isinstance(fault, _CUT_OFF) or not isinstance(fault, ssl.SSLError) else Reason.NOT_TLS


def _is_network(fault: OSError) -> bool:
    # No outage of the vault's: no file left to open, an address that we may not use.
    several = fault.errno is None and isinstance(fault, aiohttp.ClientConnectorError)  # one for each of its addresses
    return several or isinstance(fault, ConnectionError | _CUT_OFF) or fault.errno in _NETWORK


def _shown(fault: Exception) -> str:
    # Only the type: the text of a foreign error may quote what was sent.
    number = getattr(fault, "errno", None)
    name = errno.errorcode.get(number, "") if isinstance(number, int) else ""
    return f"{type(fault).__name__} {name}".strip()
