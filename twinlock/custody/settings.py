"""Every number that the custodian works by, with its default from the design."""

import hashlib
from dataclasses import dataclass, field

from schemas.identifiers import Workload
from twinlock.keys.uris import key_at, name_of


@dataclass(frozen=True, slots=True)
class EvidenceRules:
    """Say what proves a root key's vault unavailable (law 5): how many failures, over how long, how fresh."""

    failures: int = 3
    over_seconds: float = 30.0
    fresh_seconds: float = 120.0


@dataclass(frozen=True, slots=True)
class HedgeSettings:
    """Say when the second root key of a site is asked before the first has answered; times are in seconds."""

    # The part of what a vault is asked anyway that may come on top; it also decides which quantile the offset is.
    extra_load: float = 0.055
    # So many extra requests may come in a row, after a start or a quiet time; below 1 no request is ever extra.
    burst: float = 20.0
    floor: float = 0.02
    cap: float = 0.5
    # The offset while a vault has given fewer than `warm_up` good answers within the window.
    initial: float = 0.1
    warm_up: int = 20
    window: int = 1000
    window_seconds: float = 7200.0


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """Say how often one process may call vaults; rates are in calls a second, times in seconds."""

    # After so many failures that count, in a row, each key is tried once in a pause: the evidence of law 5, three
    # failures over half a minute, gathers all the same, and a vault that comes back is found within a pause.
    breaker_failures: int = 5
    breaker_pause: float = 5.0
    # For so long a vault that limits us is left alone when it asks for that, or for more. Three such pauses are best no
    # longer than `evidence.fresh_seconds`.
    longest_wait: float = 30.0
    # Azure allows about 2,000 RSA operations in 10 s: at most `vault_burst` and ten times `vault_rate`.
    vault_rate: float = 150.0
    vault_burst: float = 400.0
    tenant_rate: float = 50.0
    tenant_burst: float = 200.0
    # The part of a tenant's burst, and of a vault's, that background work leaves to people and probes.
    reserve: float = 0.25


@dataclass(frozen=True, slots=True)
class CustodySettings:
    """Hold the custodian's settings; times are in seconds.

    A caller whose deadline is shorter than a vault's can't gather evidence when both vaults hang: its calls are cut off
    before they count.
    """

    evidence: EvidenceRules = field(default_factory=EvidenceRules)
    hedge: HedgeSettings = field(default_factory=HedgeSettings)
    guards: GuardSettings = field(default_factory=GuardSettings)
    dep_key_ttl: float = 600.0
    tik_ttl: float = 86400.0
    # A key that lives for longer than `refresh_ahead` is unwrapped again so long before it expires, put off by chance
    # up to `refresh_jitter`, and every `refresh_pause` until that succeeds. Engineers are told when it has failed for
    # `refresh_alarm`, and in any case `expiry_alarm` before the end.
    refresh_ahead: float = 7200.0
    refresh_jitter: float = 600.0
    refresh_pause: float = 60.0
    refresh_alarm: float = 1800.0
    expiry_alarm: float = 1800.0
    # Short, so that under traffic the root keys are asked often enough for the evidence never to go stale in an outage.
    availability_ttl: float = 30.0
    keep_seconds: float = 60.0
    # Of people's reads by a cached key that a root key opened, one in so many has its audit entry; all else always has.
    audit_one_read_in: int = 1
    vault_deadline: float = 4.0
    retry_pause: float = 1.0
    retry_pause_cap: float = 5.0
    # After a refusal the root keys are asked again after so long; the last number repeats.
    refusal_schedule: tuple[float, ...] = (30.0, 60.0, 60.0, 60.0, 60.0, 60.0, 300.0)
    probe_interval: float = 300.0
    unclear_limit: float = 1800.0
    # So often a root key's description is looked at; so many days before its expiry date that is told.
    look_interval: float = 21600.0
    expiry_days: float = 30.0
    # Law 8: for so long a confirmed epoch gives the right to serve, and so often it is confirmed again.
    epoch_seconds: float = 10.0
    confirm_interval: float = 2.5
    availability_vault: str = "local://provider"

    def ttl(self, workload: Workload) -> float:
        """Return for how long a policy key lives in memory: a site policy's is a TIK, a mailbox policy's a DEP key."""
        return self.tik_ttl if workload is Workload.SITE else self.dep_key_ttl

    def refreshes_ahead(self, ttl: float) -> bool:
        """Say whether keys with such a life are refreshed ahead of its end; the probes renew the others."""
        return ttl > self.refresh_ahead

    def availability_uri(self, policy_id: str, recovery: str = "") -> str:
        """Return where a policy's availability key is, the first one or the one of a recovery; never shared."""
        # Short enough for every vault's names, and no less the recovery's own: a policy has few.
        later = f"-{hashlib.sha256(recovery.encode()).hexdigest()[:12]}" if recovery else ""
        return key_at(self.availability_vault, f"availability-{policy_id}{later}")

    def is_availability_uri(self, policy_id: str, uri: str) -> bool:
        """Tell whether an availability key is one that this policy has or had, wherever its vault is."""
        own = f"availability-{policy_id}"
        name = name_of(uri)
        return name == own or name.startswith(f"{own}-")
