"""What answers for a key, read off its URI: what keys of one vault, or of one account there, have in common."""


def authority(uri: str) -> str:
    """Return scheme and authority of a URI, region and account of an ARN, or the token of a PKCS#11 URI (RFC 7512).

    The URI is canonical: what an adapter has read and written again.
    """
    scheme, _, rest = uri.partition(":")
    if rest.startswith("//"):
        return "/".join(uri.split("/")[:3])
    if scheme == "arn":
        return ":".join(uri.split(":")[:5])
    return uri.partition(";")[0]
