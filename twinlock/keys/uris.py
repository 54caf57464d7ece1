"""What a key's URI says without a vault: which vault the key is in, and what it is called there."""

_ATTRIBUTE = ";object="  # what names a key on a token; elsewhere it is the last part of a path


def vault_of(uri: str) -> str:
    """Return scheme and authority of a URI, region and account of an ARN, or the token of a PKCS#11 URI (RFC 7512).

    The URI is canonical: what an adapter has read and written again.
    """
    scheme, _, rest = uri.partition(":")
    if rest.startswith("//"):
        return "/".join(uri.split("/")[:3])
    if scheme == "arn":
        return ":".join(uri.split(":")[:5])
    return uri.partition(";")[0]


def key_at(vault: str, name: str) -> str:
    """Return the URI of a key of ours in a vault, as `custody.availability_vault` names it."""
    if vault.startswith("arn:"):
        return f"{vault}:alias/{name}"  # the ids of keys are not ours to choose there
    if vault.startswith("https:"):
        return f"{vault}/keys/{name}"  # a vault of Azure has more than keys
    return f"{vault}{_ATTRIBUTE}{name}" if vault.startswith("pkcs11:") else f"{vault}/{name}"


def name_of(uri: str) -> str:
    """Return the name that `key_at` gave a key."""
    return uri.replace(_ATTRIBUTE, "/").rpartition("/")[2].partition("?")[0]


def copied(uri: str) -> str:
    """Return what copies of a key share: a multi-region key of AWS has one id, and one material, in every region."""
    name = uri.rpartition("/")[2]
    return name if uri.startswith("arn:") and name.startswith("mrk-") else uri
