"""The laws that the custodian keeps, each told as what a customer or an attacker would do."""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event, update
from sqlalchemy.exc import OperationalError

from schemas.identifiers import AvailabilityMode
from twinlock.custody.cache import OpenedBy
from twinlock.custody.errors import KeyNotYet, KeyRefused
from twinlock.custody.port import USER, ContainerRef, service
from twinlock.keys.ports import Corrupt, Denied, Outcome, Unavailable
from twinlock.store.tables.custody import availability_keys, policy_keys

if TYPE_CHECKING:
    from tests.integration.custody.conftest import Custody

SERVICE = service("index")
OK, UNAVAILABLE, DENIED, UNCLEAR, CORRUPT = (
    Outcome.OK,
    Outcome.UNAVAILABLE,
    Outcome.DENIED,
    Outcome.UNCLEAR,
    Outcome.CORRUPT,
)
THROTTLED = Unavailable("too many requests", uri="", raw="429", classifier="test/1", counts=False)


async def opened(
    custody: "Custody", name: str = "p", mode: AvailabilityMode = AvailabilityMode.STANDARD
) -> ContainerRef:
    """Make a policy and a container, in a process that has cached nothing."""
    return await custody.container(await custody.policy(name, mode), f"box-{name}")


async def test_law_1_commitment_mismatch(custody: "Custody") -> None:
    """Law 1: an answer that does not match the commitment opens nothing, is corrupt, and alerts engineering."""
    ref = await opened(custody)
    async with custody.store.begin(custody.asker().cause) as unit:
        await unit.execute(update(policy_keys).values(commitment=bytes(32)))

    with pytest.raises(KeyRefused, match="does not match"):
        await custody.open(ref)
    assert {"a": ("corrupt", "corrupt"), "b": ("corrupt", "corrupt")} == await custody.verdicts("p")
    assert ["corrupt-wrap", "corrupt-wrap", "policy-unhealthy"] == await custody.alerts()


async def test_law_1_good_slot_serves(custody: "Custody") -> None:
    """Law 1: beside a corrupt slot the good one serves, whichever is asked first, and the critical alert goes out."""
    ref = await opened(custody)
    custody.hold("p", CORRUPT, OK)
    for _ in range(8):
        custody.restart()
        await custody.open(ref)
    (alert,) = [alert for alert in await custody.events("alert.raised") if alert["kind"] == "corrupt-wrap"]

    assert ("critical", "engineering", "a") == (alert["severity"], alert["audience"], alert["slot"])


async def test_law_4_outage_does_not_undo_revocation(custody: "Custody") -> None:
    """Law 4: both keys disabled, then both vaults unreachable: users stay refused, also in a new process."""
    ref = await opened(custody)
    for uri in custody.roots("p"):
        await custody.vault.disable(uri)
    with pytest.raises(KeyRefused, match="denied"):
        await custody.open(ref)
    custody.hold("p", UNAVAILABLE, UNAVAILABLE)
    for _ in range(60):
        custody.clock.advance(10)
        custody.restart()
        with pytest.raises(KeyRefused, match="denied"):
            await custody.open(ref)

    assert 0 == custody.availability_asked("p") - 1  # one for the copy's verification when it was made


async def test_law_4_one_denial_is_enough(custody: "Custody") -> None:
    """Law 4: one key denied and the other away, then both away: users stay refused."""
    ref = await opened(custody)
    custody.hold("p", DENIED, UNAVAILABLE)
    with pytest.raises(KeyRefused):
        await custody.open(ref)
    custody.hold("p", UNAVAILABLE, UNAVAILABLE)
    custody.restart()

    with pytest.raises(KeyRefused, match="denied"):
        await custody.open_patiently(ref)


@pytest.mark.parametrize("later", [UNAVAILABLE, UNCLEAR, Outcome.MISCONFIGURED])
async def test_law_4_only_the_key_itself_heals(custody: "Custody", later: Outcome) -> None:
    """Law 4: whatever a vault says after a denial, only a good answer of that key ends it."""
    ref = await opened(custody)
    custody.hold("p", DENIED, DENIED)
    with pytest.raises(KeyRefused):
        await custody.open(ref)
    custody.hold("p", later, later)
    custody.restart()
    with pytest.raises(KeyRefused, match="denied"):
        await custody.open(ref)
    custody.hold("p", OK, later)
    custody.restart()
    await custody.open(ref)

    assert [("denied", later.value)] == [v for slot, v in (await custody.verdicts("p")).items() if slot == "b"]


async def test_law_4_denial_beside_a_hanging_vault(custody: "Custody") -> None:
    """Law 4: a denial counts also where the other vault hangs until the caller's own time is up."""
    ref = await opened(custody)
    custody.hold("p", DENIED, OK)
    custody.vault.slow(custody.roots("p")[1], 1000)
    for _ in range(6):
        with suppress(KeyNotYet, KeyRefused):
            await custody.open(ref)
    custody.vault.slow(custody.roots("p")[1], 0)
    custody.hold("p", UNAVAILABLE, UNAVAILABLE)

    with pytest.raises(KeyRefused, match="denied"):
        await custody.open_patiently(ref)


async def test_law_5_waits_for_evidence(custody: "Custody") -> None:
    """Law 5: the availability key is not asked before both slots failed three times over 30 s, and then serves."""
    ref = await opened(custody)
    custody.hold("p", UNAVAILABLE, UNAVAILABLE)
    made = custody.availability_asked("p")
    with pytest.raises(KeyNotYet, match="not complete yet"):
        await custody.open_patiently(ref, deadline=29)

    assert made == custody.availability_asked("p")

    key = await custody.open_patiently(ref)

    assert (True, 60.0) == (key.by_availability_key, key.keep_seconds)
    assert made + 1 == custody.availability_asked("p")
    assert ["policy-unhealthy", "availability-key-used"] == await custody.alerts()


async def test_law_5_not_without_three(custody: "Custody") -> None:
    """Law 5: two failures, however far apart, are no evidence."""
    ref = await opened(custody)
    custody.hold("p", UNAVAILABLE, UNAVAILABLE)
    with pytest.raises(KeyNotYet):
        await custody.open(ref)
    custody.clock.advance(60)
    with pytest.raises(KeyNotYet):
        await custody.open(ref)
    custody.clock.advance(5)

    assert (await custody.open(ref)).by_availability_key


async def test_law_5_old_failures_do_not_count(custody: "Custody") -> None:
    """Law 5: failures older than two minutes are no evidence any more."""
    ref = await opened(custody)
    custody.hold("p", UNAVAILABLE, UNAVAILABLE)
    for _ in range(10):
        with pytest.raises(KeyNotYet):
            await custody.open(ref)
        custody.clock.advance(121)


async def test_law_5_throttling_never_counts(custody: "Custody") -> None:
    """Law 5: failures that do not count (429, our own limiter) never open the availability key, nor say anything."""
    ref = await opened(custody)
    custody.hold("p", THROTTLED, UNAVAILABLE)

    with pytest.raises(KeyNotYet):
        await custody.open_patiently(ref)
    assert {"a": ("ok", "ok"), "b": (None, "unavailable")} == await custody.verdicts("p")


async def test_law_5_one_answer_clears_the_evidence(custody: "Custody") -> None:
    """Law 5: a vault that answers in between starts the evidence of its slot over."""
    ref = await opened(custody)
    custody.hold("p", UNAVAILABLE, UNAVAILABLE)
    with pytest.raises(KeyNotYet):
        await custody.open_patiently(ref, deadline=25)
    custody.hold("p", UNCLEAR, UNAVAILABLE)
    custody.clock.advance(custody.settings.guards.breaker_pause)
    with pytest.raises(KeyRefused):
        await custody.open(ref)
    custody.hold("p", UNAVAILABLE, UNAVAILABLE)
    custody.restart()

    with pytest.raises(KeyNotYet):
        await custody.open_patiently(ref, deadline=25)


async def test_law_5_cut_off_ourselves(custody: "Custody") -> None:
    """Law 5: while nothing outside the customer's control answers, the fault may be ours: nobody is served."""
    ref = await opened(custody)
    custody.hold("p", UNAVAILABLE, UNAVAILABLE)
    custody.provider.hold(custody.availability("p"), UNAVAILABLE)
    made = custody.availability_asked("p")

    with pytest.raises(KeyNotYet):
        await custody.open_patiently(ref)
    assert made == custody.availability_asked("p")


async def test_law_5_root_key_comes_back(custody: "Custody") -> None:
    """Law 5: a call that waits for evidence is served by a root key that comes back meanwhile."""
    ref = await opened(custody)
    for uri in custody.roots("p"):
        custody.vault.script(uri, UNAVAILABLE, UNAVAILABLE)
    key = await custody.open_patiently(ref)

    assert not key.by_availability_key
    assert ["unhealthy", "degraded"] == [changed["health"] for changed in await custody.events("health.changed")]


async def test_law_5_evidence_stays_fresh_under_traffic(custody: "Custody") -> None:
    """Law 5: in a long outage users who keep coming are served without a gap, on evidence that is renewed."""
    ref = await opened(custody)
    custody.hold("p", UNAVAILABLE, UNAVAILABLE)
    await custody.open_patiently(ref)
    for _ in range(60):
        custody.clock.advance(10)

        assert (await custody.open(ref)).by_availability_key


@pytest.mark.parametrize("mode", [AvailabilityMode.RECOVERY_ONLY, AvailabilityMode.NONE])
async def test_modes_without_fallback(custody: "Custody", mode: AvailabilityMode) -> None:
    """Without a fallback in its mode a policy refuses at once while both vaults are away, for users and service."""
    ref = await opened(custody, mode=mode)
    custody.hold("p", UNAVAILABLE, UNAVAILABLE)
    for initiator in (USER, SERVICE):
        with pytest.raises(KeyRefused, match="neither root key"):
            await custody.open(ref, initiator)


async def test_law_6_rewrap_needs_a_root_key(custody: "Custody") -> None:
    """Law 6: both keys disabled, then both vaults unreachable: rewrapping away is refused, with a hint to recovery."""
    ref = await opened(custody)
    other = await custody.policy("q")
    for outcome in (DENIED, UNAVAILABLE):
        custody.hold("p", outcome, outcome)
        with pytest.raises(KeyRefused, match="no root key") as refused:
            await custody.custodian.rewrap_containers([ref], other, custody.asker(service("assign")))

        assert "recovery" in refused.value.hint
    with pytest.raises(KeyRefused, match="no root key"):
        await custody.custodian.rewrap_policy_key("p", custody.asker())


async def test_law_6_no_cache_rewraps(custody: "Custody") -> None:
    """Law 6: neither a key cached by a root key nor one by the availability key rewraps once the root keys are away."""
    ref = await opened(custody)
    other = await custody.policy("q")
    await custody.open(ref)
    custody.hold("p", UNAVAILABLE, UNAVAILABLE)

    with pytest.raises(KeyRefused, match="no root key"):
        await custody.custodian.rewrap_containers([ref], other, custody.asker(SERVICE))

    custody.restart()

    assert (await custody.open_patiently(ref, SERVICE)).by_availability_key
    with pytest.raises(KeyRefused, match="no root key"):
        await custody.custodian.rewrap_containers([ref], other, custody.asker(SERVICE))


async def test_law_6_target_needs_a_root_key(custody: "Custody") -> None:
    """Law 6: nothing is put under a policy that only its availability key opens."""
    ref = await opened(custody)
    target = await custody.policy("q")
    custody.hold(target, DENIED, DENIED)
    made = custody.availability_asked(target)

    with pytest.raises(KeyRefused, match="acme/q"):
        await custody.custodian.rewrap_containers([ref], target, custody.asker(SERVICE))
    with pytest.raises(KeyRefused, match="no root key"):
        await custody.custodian.make_container_keys([ContainerRef("acme", "new", 1)], target, custody.asker(SERVICE))
    assert made == custody.availability_asked(target)


async def test_law_7_service_leaves_nothing_for_users(custody: "Custody") -> None:
    """Law 7: after a denial a service open in `standard` works once, and a user's open after it is refused."""
    ref = await opened(custody)
    custody.hold("p", DENIED, DENIED)
    key = await custody.open(ref, SERVICE)

    assert (True, 0.0) == (key.by_availability_key, key.keep_seconds)
    assert [] == list(custody.custodian.cached())
    with pytest.raises(KeyRefused, match="denied"):
        await custody.open(ref)

    before = custody.availability_asked("p")
    await custody.open(ref, SERVICE)

    assert before + 1 == custody.availability_asked("p")


async def test_law_7_one_call_each_for_many(custody: "Custody") -> None:
    """Law 7: services that wait together after a denial are each served by a call of their own."""
    ref = await opened(custody)
    custody.hold("p", DENIED, DENIED)
    before = custody.availability_asked("p")
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(custody.custodian.open_container_key(ref, custody.asker(SERVICE))) for _ in range(4)]

    assert before + 4 == custody.availability_asked("p")
    assert 4 == len({id(task.result().key) for task in tasks})


async def test_law_7_strict_means_denied(custody: "Custody") -> None:
    """Law 7: in `strict` a denial refuses the service as well."""
    ref = await opened(custody, mode=AvailabilityMode.STRICT)
    custody.hold("p", DENIED, DENIED)

    with pytest.raises(KeyRefused, match="denied"):
        await custody.open(ref, SERVICE)


async def test_law_7_opened_for_the_service(custody: "Custody") -> None:
    """Law 7: what the availability key opened for the service in an outage is not what a user is served from."""
    ref = await opened(custody)
    custody.hold("p", UNAVAILABLE, UNAVAILABLE)
    await custody.open_patiently(ref, SERVICE)
    before = custody.availability_asked("p")

    assert [OpenedBy.AVAILABILITY_FOR_SERVICE] == [line.opened_by for line in custody.custodian.cached()]
    assert (await custody.open(ref)).by_availability_key
    assert before + 1 == custody.availability_asked("p")


async def test_law_7_denial_beats_the_availability_cache(custody: "Custody") -> None:
    """Law 7: a denial seen by another process ends what the availability key opened for users, though it is cached."""
    ref = await opened(custody)
    custody.hold("p", UNAVAILABLE, UNAVAILABLE)
    await custody.open_patiently(ref)
    custody.hold("p", DENIED, UNAVAILABLE)
    with pytest.raises(KeyRefused):
        await custody.open(ref, custodian=custody.process())

    with pytest.raises(KeyRefused, match="denied"):
        await custody.open(ref)


async def test_law_7_denial_beats_the_root_cache(custody: "Custody") -> None:
    """Law 7: an exact denial seen by another process evicts what a root key had opened here."""
    ref = await opened(custody)
    await custody.open(ref)
    custody.hold("p", DENIED, DENIED)
    with pytest.raises(KeyRefused):
        await custody.open(ref, custodian=custody.process())

    with pytest.raises(KeyRefused, match="denied"):
        await custody.open(ref)
    assert [] == list(custody.custodian.cached())


async def test_law_7_cache_expires(custody: "Custody") -> None:
    """Law 7: a cached key serves while its vaults are away, and not beyond its time to live."""
    ref = await opened(custody)
    await custody.open(ref)
    custody.hold("p", UNAVAILABLE, UNAVAILABLE)
    custody.clock.advance(599)
    await custody.open(ref)
    custody.clock.advance(1)

    with pytest.raises(KeyNotYet):
        await custody.open(ref)


async def test_law_15_durable_before_release(custody: "Custody") -> None:
    """Law 15: every open has its entry, from the vault or the cache, with who asked, for what, and how it went."""
    ref = await opened(custody)
    await custody.open(ref)
    await custody.open(ref, SERVICE)
    custody.hold("p", DENIED, DENIED)
    custody.restart()
    with pytest.raises(KeyRefused):
        await custody.open(ref)
    rows = [row for row in await custody.audit() if row.kind.startswith("container-key-")]

    assert [
        ("container-key-opened", "user", "root-key", "vault"),
        ("container-key-opened", "service:index", "root-key", "cache"),
        ("container-key-refused", "user", None, None),
    ] == [(r.kind, r.detail["initiator"], r.detail.get("opened_by"), r.detail.get("source")) for r in rows]
    assert [("acme", "p")] * 3 == [(row.tenant_id, row.policy_id) for row in rows]


async def test_law_15_which_slot(custody: "Custody") -> None:
    """Law 15: an entry names the slot that opened, also from the cache, and what the root keys said to this call."""
    ref = await opened(custody)
    await custody.policy("q")
    custody.hold("p", DENIED, OK)
    await custody.open(ref)
    await custody.open(ref)
    await custody.custodian.rewrap_policy_key("q", custody.asker())
    custody.hold("q", OK, DENIED)
    await custody.custodian.rewrap_containers([ref], "q", custody.asker())
    custody.hold("p", DENIED, DENIED)
    custody.restart()
    for _ in range(2):
        with pytest.raises(KeyRefused):
            await custody.open(ref)
    kinds = ("container-key-", "containers-rewrapped", "policy-key-rewrapped")
    rows = [row for row in await custody.audit() if row.kind.startswith(kinds)]

    assert [
        ("container-key-opened", "b", "a=denied,b=ok"),
        ("container-key-opened", "b", None),
        ("policy-key-rewrapped", "a", "a=ok,b=ok"),
        ("containers-rewrapped", "a", "a=ok,b=denied"),
        ("containers-rewrapped", "b", "b=ok"),
        ("container-key-refused", None, "a=denied,b=denied"),
        ("container-key-refused", None, None),
    ] == [(row.kind, row.detail.get("slot"), row.detail["heard"]) for row in rows]


async def test_law_15_no_entry_no_key(custody: "Custody") -> None:
    """Law 15: a container key whose entry can't be written is not released."""
    ref = await opened(custody)
    await custody.open(ref)
    _refuse_audit(custody)

    with pytest.raises(OperationalError):
        await custody.open(ref)


async def test_law_15_sampled_reads(custody: "Custody") -> None:
    """Law 15: sampling leaves out people's reads from the cache alone: no unwrap, no service call, no refusal."""
    custody.restart(audit_one_read_in=10**9)
    ref = await opened(custody)
    start = len(await custody.audit())
    for _ in range(3):
        await custody.open(ref)
    await custody.open(ref, SERVICE)
    custody.hold("p", DENIED, DENIED)
    custody.restart()
    with pytest.raises(KeyRefused):
        await custody.open(ref)
    rows = [row for row in (await custody.audit())[start:] if row.kind.startswith("container-key-")]

    assert [("user", "vault"), ("service:index", "cache"), ("user", None)] == [
        (row.detail["initiator"], row.detail.get("source")) for row in rows
    ]


async def test_law_15_availability_key_entry_first(custody: "Custody") -> None:
    """Law 15: the availability key's entry is written before its vault is asked; without it the call is refused."""
    ref = await opened(custody)
    custody.hold("p", DENIED, DENIED)
    before = custody.availability_asked("p")
    await custody.open(ref, SERVICE)
    kinds = [row.kind for row in await custody.audit()]

    assert kinds.index("availability-key-asked") < len(kinds) - 1
    assert "container-key-opened" == kinds[-1]

    _refuse_audit(custody)
    with pytest.raises(OperationalError):  # the refusal itself can't be audited either
        await custody.open(ref, SERVICE)
    assert before + 1 == custody.availability_asked("p")


def _refuse_audit(custody: "Custody") -> None:
    """Have the database refuse every new audit entry."""

    def _refuse(_c: object, _cursor: object, statement: str, *_rest: object) -> None:
        if "INSERT INTO audit_entries" in statement:
            raise OperationalError(statement, {}, OSError("the disk is full"))

    event.listen(custody.store.engine.sync_engine, "before_cursor_execute", _refuse)


@pytest.mark.parametrize("state", ["destroyed", "odd", None])
async def test_availability_key_unusable(custody: "Custody", state: str | None) -> None:
    """An availability key that is destroyed, unknown or in an odd state is never asked."""
    ref = await opened(custody)
    async with custody.store.begin(custody.asker().cause) as unit:
        if state is None:
            await unit.execute(availability_keys.delete())
        else:
            await unit.execute(update(availability_keys).values(state=state))
    custody.hold("p", DENIED, DENIED)
    before = custody.availability_asked("p")

    with pytest.raises(KeyRefused, match="availability key"):
        await custody.open(ref, SERVICE)
    assert before == custody.availability_asked("p")


@pytest.mark.parametrize("failure", [UNAVAILABLE, DENIED, UNCLEAR, Outcome.MISCONFIGURED, CORRUPT])
async def test_availability_vault_fails(custody: "Custody", failure: Outcome) -> None:
    """Whatever way the provider's vault fails, the call is refused and engineering is told, once an episode."""
    ref = await opened(custody)
    custody.hold("p", DENIED, DENIED)
    custody.provider.hold(custody.availability("p"), failure)
    for _ in range(2):
        with pytest.raises(KeyRefused, match="availability key"):
            await custody.open(ref, SERVICE)

    assert ["key-revoked", "key-revoked", "policy-unhealthy", "availability-key-failed"] == await custody.alerts()


async def test_refusal_is_remembered(custody: "Custody") -> None:
    """A refused policy is not asked again for 30 s, heals by itself afterwards, and at once in a new process."""
    ref = await opened(custody)
    custody.hold("p", DENIED, DENIED)
    with pytest.raises(KeyRefused):
        await custody.open(ref)
    asked = custody.asked("p")
    custody.hold("p", OK, OK)
    with pytest.raises(KeyRefused, match="denied"):
        await custody.open(ref)

    assert asked == custody.asked("p")
    assert not (await custody.open(ref, custodian=custody.process())).by_availability_key


async def test_refusal_heals_after_30_seconds(custody: "Custody") -> None:
    """After 30 s a refused policy's root keys are asked again."""
    ref = await opened(custody)
    custody.hold("p", DENIED, DENIED)
    with pytest.raises(KeyRefused):
        await custody.open(ref)
    custody.hold("p", OK, OK)
    custody.clock.advance(30)
    await custody.open(ref)

    # the slot that was not asked is not known to answer yet; the prober asks both
    assert ["unhealthy", "degraded"] == [changed["health"] for changed in await custody.events("health.changed")]


async def test_single_flight(custody: "Custody") -> None:
    """Users who wait for one policy make one vault call, and each gets a key of its own."""
    ref = await opened(custody)
    before = custody.asked("p")
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(custody.custodian.open_container_key(ref, custody.asker())) for _ in range(10)]

    assert before + 1 == custody.asked("p")
    assert 10 == len({id(task.result().key) for task in tasks})


async def test_hung_vault(custody: "Custody") -> None:
    """A caller that runs out of time while a vault hangs is told to come back, and leaves no evidence and no call."""
    ref = await opened(custody)
    for uri in custody.roots("p"):
        custody.vault.slow(uri, 1e9)

    with pytest.raises(KeyNotYet):
        await custody.custodian.open_container_key(ref, custody.asker(deadline=0.01))
    assert (0, {"a": ("ok", "ok")}) == (custody.vault.in_flight, await custody.verdicts("p"))


async def test_hung_vaults_count(custody: "Custody") -> None:
    """A vault that lets its whole deadline pass is unavailable, as evidence."""
    ref = await opened(custody)
    custody.restart(vault_deadline=0.01)
    for uri in custody.roots("p"):
        custody.vault.slow(uri, 1e9)

    with pytest.raises(KeyNotYet):
        await custody.custodian.open_container_key(ref, custody.asker(deadline=0.9))
    assert {"a": ("ok", "unavailable"), "b": (None, "unavailable")} == await custody.verdicts("p")


async def test_says_no_secret(custody: "Custody", caplog: pytest.LogCaptureFixture) -> None:
    """Nothing that is logged, audited, sent or printed holds a key."""
    ref = await opened(custody)
    key = await custody.open(ref)
    custody.hold("p", DENIED, Denied("no", uri="x", classifier="test/1"))
    custody.restart()
    with pytest.raises(KeyRefused) as refused:
        await custody.open(ref)
    custody.hold("p", DENIED, Corrupt("odd", uri="x", classifier="test/1"))
    said = [caplog.text, repr(key), repr(refused.value), repr(await custody.audit())]
    said.append(repr(await custody.events("alert.raised")))

    for text in said:
        assert key.key.expose().hex() not in text
        assert repr(bytes(key.key.expose())) not in text
