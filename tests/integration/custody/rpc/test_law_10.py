"""Law 10: service is not a master key. What a call names has to be live, the caller's, and about what is asked."""

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import delete, insert, update

from schemas.identifiers import AvailabilityMode, Workload
from schemas.requests import MoveRequested, PolicyRequested, RefreshRequested, SiteMoveRequested
from twinlock.custody.callers.purposes import Operation, permit
from twinlock.custody.callers.warrants import check
from twinlock.custody.errors import CustodianSilent, NotPermitted
from twinlock.custody.lifecycle.naming import made_by
from twinlock.custody.port import Asker, ContainerRef, JobRef, PolicyKeyOrder, RequestRef, service
from twinlock.custody.remote.ignoring import Why
from twinlock.custody.remote.messages import RewrapContainers
from twinlock.custody.remote.ports import Lane
from twinlock.store.tables.content import containers
from twinlock.store.tables.custody import policies
from twinlock.store.tables.tenants import tenants
from twinlock.store.tables.work import geos, jobs, requests
from twinlock.store.unit import Cause

if TYPE_CHECKING:
    from tests.integration.custody.conftest import Custody
    from tests.integration.custody.rpc.conftest import Afar

ASSIGNER, REENCRYPTOR, SITES = "dep_assigner", "mailbox_reencryptor", "site_reencryptor"


@pytest.fixture
async def ref(custody: "Custody") -> ContainerRef:
    """Return a container under p; there is a policy q as well."""
    await custody.policy("q")
    return await custody.container(await custody.policy("p"))


async def _step(afar: "Afar", ref: ContainerRef, job: JobRef | None) -> None:
    await afar.caller(REENCRYPTOR).open_container_key(ref, afar.working("reencrypt", job))


async def _assign(afar: "Afar", ref: ContainerRef, job: JobRef, target: str = "q", purpose: str = "assign") -> None:
    await afar.caller(ASSIGNER).rewrap_containers([ref], target, afar.working(purpose, job))


async def _move(afar: "Afar", ref: ContainerRef, request: RequestRef, policy: str = "p") -> None:
    new = replace(ref, generation=2)
    await afar.caller(REENCRYPTOR).make_container_keys([new], policy, afar.working("move", request))


async def _refused(afar: "Afar", kind: str = "rpc-refused") -> list[str]:
    return [row.detail["caller"] for row in await afar.entries(kind)]


async def test_law_10_step(afar: "Afar", ref: ContainerRef) -> None:
    """Law 10: a step opens the keys of the container that its job is about."""
    await _step(afar, ref, await afar.job("reencrypt", REENCRYPTOR, container_id=ref.container_id))

    assert [] == await _refused(afar)
    assert [Lane.BACKGROUND] == afar.wire.lanes


async def test_law_10_no_job(afar: "Afar", ref: ContainerRef) -> None:
    """Law 10: a service call that names no job is refused, with an audit entry, and no vault is asked."""
    asked = afar.custody.asked("p")
    with pytest.raises(NotPermitted, match="names no job"):
        await _step(afar, ref, None)

    assert [REENCRYPTOR] == await _refused(afar)
    assert asked == afar.custody.asked("p")


@pytest.mark.parametrize("sender", [None, "guest", "operator", REENCRYPTOR])
@pytest.mark.usefixtures("once")
async def test_law_10_login(afar: "Afar", ref: ContainerRef, sender: str | None) -> None:
    """Law 10: whoever holds a worker's key speaks as the service only where the broker vouches for that worker."""
    job = await afar.job("reencrypt", REENCRYPTOR, container_id=ref.container_id)
    afar.vouches, afar.wire.serve = True, lambda body: afar.serve(body, sender)
    with nullcontext() if sender == REENCRYPTOR else pytest.raises(CustodianSilent):
        await afar.caller(REENCRYPTOR).open_container_key(ref, afar.working("reencrypt", job))
    ignored = [row.detail["reason"] for row in await afar.entries("rpc-requests-ignored")]

    assert ([] if sender == REENCRYPTOR else [Why.OTHER_LOGIN]) == ignored[:1]


async def test_law_10_finished_job(custody: "Custody", afar: "Afar", ref: ContainerRef) -> None:
    """Law 10: a job that has ended opens nothing any more."""
    job = await afar.job("reencrypt", REENCRYPTOR, container_id=ref.container_id)
    async with custody.store.begin(afar.user().cause) as unit:
        await unit.execute(delete(jobs))

    with pytest.raises(NotPermitted, match="no live job"):
        await _step(afar, ref, job)


async def test_law_10_anothers_container(custody: "Custody", afar: "Afar", ref: ContainerRef) -> None:
    """Law 10: a job about one container opens no other."""
    await custody.container("p", "other")
    job = await afar.job("reencrypt", REENCRYPTOR, container_id="other")

    with pytest.raises(NotPermitted, match="not about container box"):
        await _step(afar, ref, job)


async def test_law_10_no_ones_container(afar: "Afar", ref: ContainerRef) -> None:
    """Law 10: a job about a whole tenant opens no container."""
    job = await afar.job("reencrypt", REENCRYPTOR)

    with pytest.raises(NotPermitted, match="not about container box"):
        await _step(afar, ref, job)


async def test_law_10_anothers_job(afar: "Afar", ref: ContainerRef) -> None:
    """Law 10: another worker's job, and a job of another kind, are no warrant."""
    foreign = await afar.job("reencrypt", ASSIGNER, container_id=ref.container_id)
    other_kind = await afar.job("assign", REENCRYPTOR, container_id=ref.container_id)

    for job in (foreign, other_kind):
        with pytest.raises(NotPermitted, match="no live job"):
            await _step(afar, ref, job)


async def test_law_10_another_purpose(afar: "Afar", ref: ContainerRef) -> None:
    """Law 10: a worker asks for its own purposes alone, whatever job it names, and never as a person."""
    job = await afar.job("reencrypt", REENCRYPTOR, container_id=ref.container_id)
    custodian = afar.caller(REENCRYPTOR)
    for asker in (afar.working("index", job), replace(afar.user(), job=job), afar.working("", job)):
        with pytest.raises(NotPermitted, match="may not ask"):
            await custodian.open_container_key(ref, asker)
    with pytest.raises(NotPermitted, match="may not ask"):
        await custodian.rewrap_containers([ref], "q", afar.working("reencrypt", job))

    assert [REENCRYPTOR] * 4 == await _refused(afar)


async def test_law_10_assignment(afar: "Afar", ref: ContainerRef) -> None:
    """Law 10: an assignment of all mailboxes is about every container of its tenant, under its policy."""
    job = await afar.job("assign", ASSIGNER, policy_id="q")
    await _assign(afar, ref, job)
    with pytest.raises(NotPermitted, match="not about policy p"):
        await _assign(afar, ref, job, target="p")


async def test_law_10_assignment_by_name(custody: "Custody", afar: "Afar", ref: ContainerRef) -> None:
    """Law 10: an assignment that names mailboxes is about these alone."""
    other = await custody.container("p", "other")
    job = await afar.job("assign", ASSIGNER, policy_id="q", payload={"mailboxes": ["box@acme.example"]})
    await _assign(afar, ref, job)

    with pytest.raises(NotPermitted, match="not about container other"):
        await _assign(afar, other, job)


async def test_law_10_other_tenant(custody: "Custody", afar: "Afar", ref: ContainerRef) -> None:
    """Law 10: an assignment of one tenant is not about another's container, nor does a lie about whose it is help."""
    async with custody.store.begin(afar.user().cause) as unit:
        rival = {"id": "rival", "name": "rival", "trial": False, "created_at": custody.clock.now()}
        await unit.execute(insert(tenants).values(rival))
    job = await afar.job("assign", ASSIGNER, policy_id="q", tenant_id="rival")

    for each in (ref, replace(ref, tenant_id="rival")):
        with pytest.raises(NotPermitted, match="not about container"):
            await _assign(afar, each, job)


async def test_law_10_revert(custody: "Custody", afar: "Afar", ref: ContainerRef) -> None:
    """Law 10: putting named mailboxes back under the provider's keys is about them, whosever they are."""
    async with custody.store.begin(afar.user().cause) as unit:
        provider = {"id": "us", "name": "provider", "trial": False, "created_at": custody.clock.now()}
        await unit.execute(insert(tenants).values(provider))
        await unit.execute(update(policies).where(policies.c.id == "q").values(tenant_id="us", name="service"))
    named = await afar.job(
        "assign", ASSIGNER, policy_id="q", tenant_id="us", payload={"mailboxes": ["box@acme.example"]}
    )
    everything = await afar.job("assign", ASSIGNER, policy_id="q", tenant_id="us", id="assign:all")

    asking = RewrapContainers(refs=(ref,), target_policy_id="q")
    allowed = permit(ASSIGNER, service("assign"), Operation.REWRAP_CONTAINERS)
    assert allowed is not None
    async with custody.store.read() as reader:
        await check(reader, ASSIGNER, allowed, afar.working("assign", named), asking)
        with pytest.raises(NotPermitted, match="not about container"):
            await check(reader, ASSIGNER, allowed, afar.working("assign", everything), asking)


async def test_law_10_roll(custody: "Custody", afar: "Afar", ref: ContainerRef) -> None:
    """Law 10: a roll is about the containers under its policy alone, and stays within it."""
    other = await custody.container("q", "other")
    job = await afar.job("roll", ASSIGNER, policy_id="p")
    await _assign(afar, ref, job, "p", "roll")

    with pytest.raises(NotPermitted, match="not about container other"):
        await _assign(afar, other, job, "p", "roll")


async def _in_geo(custody: "Custody", name: str, geo: str) -> ContainerRef:
    ref = await custody.container("p", name, Workload.SITE)
    async with custody.store.begin(Cause("test")) as unit:
        await unit.execute(update(containers).where(containers.c.id == name).values(geo=geo))
    return ref


async def test_law_10_rollout(custody: "Custody", afar: "Afar", ref: ContainerRef) -> None:
    """Law 10: a rollout is about the sites of its own geo and tenant, under its policy, and opens no key."""
    site, elsewhere = await _in_geo(custody, "site", "eu"), await _in_geo(custody, "elsewhere", "us")
    job = await afar.job("assign", SITES, policy_id="q", payload={"geo": "eu"})
    custodian, asker = afar.caller(SITES), afar.working("assign", job)
    await custodian.rewrap_containers([site], "q", asker)
    await custodian.make_container_keys([replace(site, generation=2)], "q", asker)

    for stranger in (elsewhere, ref, replace(site, tenant_id="rival")):
        with pytest.raises(NotPermitted, match="not about container"):
            await custodian.rewrap_containers([site, stranger], "q", asker)
        with pytest.raises(NotPermitted, match="not about container"):
            await custodian.make_container_keys([replace(stranger, generation=2)], "q", asker)
    with pytest.raises(NotPermitted, match="not about policy p"):
        await custodian.rewrap_containers([site], "p", asker)
    with pytest.raises(NotPermitted, match="may not ask"):
        await custodian.open_container_key(site, asker)


async def test_law_10_all_mailboxes_are_no_sites(custody: "Custody", afar: "Afar", ref: ContainerRef) -> None:
    """Law 10: an assignment of all mailboxes of a tenant is not about its sites."""
    site = await _in_geo(custody, "site", "eu")
    job = await afar.job("assign", ASSIGNER, policy_id="q")

    with pytest.raises(NotPermitted, match="not about container site"):
        await _assign(afar, site, job)


async def test_law_10_roll_of_sites(custody: "Custody", afar: "Afar", ref: ContainerRef) -> None:
    """Law 10: a roll of sites is about those under its policy alone."""
    site, other = await _in_geo(custody, "site", "eu"), await custody.container("q", "other", Workload.SITE)
    job = await afar.job("roll", SITES, policy_id="p")
    custodian, asker = afar.caller(SITES), afar.working("roll", job)
    await custodian.rewrap_containers([site], "p", asker)

    with pytest.raises(NotPermitted, match="not about container other"):
        await custodian.rewrap_containers([other], "p", asker)


async def test_law_10_move_of_a_site(custody: "Custody", afar: "Afar", ref: ContainerRef) -> None:
    """Law 10: a site's move makes a key for a request, and its re-encryption opens keys of the job's own site alone."""
    site = await _in_geo(custody, "site", "eu")
    request = await afar.request(SiteMoveRequested)
    job = await afar.job("reencrypt", SITES, container_id="site")
    custodian = afar.caller(SITES)
    await custodian.make_container_keys([replace(site, generation=2)], "p", afar.working("move", request))
    await custodian.open_container_key(site, afar.working("reencrypt", job))

    with pytest.raises(NotPermitted, match="not about container box"):
        await custodian.open_container_key(ref, afar.working("reencrypt", job))
    with pytest.raises(NotPermitted, match="may not ask"):
        await custodian.open_container_key(site, afar.working("move", request))


async def test_law_10_other_workload(custody: "Custody", afar: "Afar", ref: ContainerRef) -> None:
    """Law 10: a re-encryptor opens no key of the other workload, though a job of its own names that container."""
    site = await _in_geo(custody, "site", "eu")
    for worker, foreign in ((SITES, ref), (REENCRYPTOR, site)):
        job = await afar.job("reencrypt", worker, container_id=foreign.container_id)
        with pytest.raises(NotPermitted, match=f"not about container {foreign.container_id}"):
            await afar.caller(worker).open_container_key(foreign, afar.working("reencrypt", job))


async def test_law_10_one_stranger_among_many(custody: "Custody", afar: "Afar", ref: ContainerRef) -> None:
    """Law 10: one container that a job is not about refuses the whole batch."""
    other = await custody.container("p", "other")
    job = await afar.job("assign", ASSIGNER, policy_id="q", payload={"mailboxes": ["box@acme.example"]})
    with pytest.raises(NotPermitted):
        await afar.caller(ASSIGNER).rewrap_containers([ref, other], "q", afar.working("assign", job))


async def test_law_10_move(afar: "Afar", ref: ContainerRef) -> None:
    """Law 10: a move needs a request to move that nobody has answered, and stays under the container's policy."""
    request = await afar.request(MoveRequested)
    await _move(afar, ref, request)

    with pytest.raises(NotPermitted, match="not under policy q"):
        await _move(afar, ref, request, "q")


@pytest.mark.parametrize(
    "values", [{"outcome": "done"}, {"accepted": False}, {"type": PolicyRequested.type}, {"correlation": "other"}]
)
async def test_law_10_request_is_no_warrant(afar: "Afar", ref: ContainerRef, values: dict[str, Any]) -> None:
    """Law 10: a request that was answered or never accepted, of another type or correlation, is no warrant."""
    request = await afar.request(MoveRequested, **values)

    with pytest.raises(NotPermitted):
        await _move(afar, ref, request)
    assert [REENCRYPTOR] == await _refused(afar)


async def test_law_10_nobody_asked(afar: "Afar", ref: ContainerRef) -> None:
    """Law 10: what nobody asked for, and a job where a request is due, is refused."""
    job = await afar.job("move", REENCRYPTOR, container_id=ref.container_id)
    for work in (RequestRef("urn:test:publisher", "never"), job, None):
        asker = Asker(afar.working("move", None).initiator, Cause("test"), 60.0, work)
        with pytest.raises(NotPermitted):
            await afar.caller(REENCRYPTOR).make_container_keys([replace(ref, generation=2)], "p", asker)


async def test_law_10_policy_of_the_request(custody: "Custody", afar: "Afar") -> None:
    """Law 10: a request for a policy makes the first key of the policy that has its name, and no other."""
    for uri in custody.roots("new"):
        await custody.vault.create_root_key(uri)
    request = await afar.request(PolicyRequested)
    name = made_by(request.source, request.id)
    fine = PolicyKeyOrder("acme", name, 1, AvailabilityMode.STANDARD, custody.roots("new"))
    custodian, asker = afar.caller(ASSIGNER), afar.working("create-policy", request)
    await custodian.make_policy_key(fine, asker)

    for wrong in (replace(fine, policy_id="other"), replace(fine, generation=2)):
        with pytest.raises(NotPermitted, match="makes no such policy key"):
            await custodian.make_policy_key(wrong, asker)


async def test_law_10_next_key_of_a_policy(custody: "Custody", afar: "Afar", ref: ContainerRef) -> None:
    """Law 10: a refresh makes a policy's next key under its own root keys, in its own mode."""
    asker = afar.working("refresh", await afar.request(RefreshRequested))
    fine = PolicyKeyOrder("acme", "p", 2, AvailabilityMode.STANDARD, custody.roots("p"))
    custodian = afar.caller(ASSIGNER)
    await custodian.make_policy_key(fine, asker)

    changes = (
        {"root_uris": custody.roots("q")},
        {"generation": 3},
        {"mode": AvailabilityMode.NONE},
        {"tenant_id": "x"},
    )
    for change in changes:
        with pytest.raises(NotPermitted, match="makes no such policy key"):
            await custodian.make_policy_key(replace(fine, **change), asker)


async def test_law_10_operator(custody: "Custody", afar: "Afar", ref: ContainerRef) -> None:
    """Law 10: an operator's read as the service is served, audited and told to engineering; a person's read is not."""
    custodian = afar.caller("operator")
    await custodian.open_container_key(ref, afar.user())
    assert [] == await afar.entries("read-as-service")
    await custodian.open_container_key(ref, afar.working("index", None))

    assert [("service:index", "box")] == [
        (row.detail["initiator"], row.detail["container"]) for row in await afar.entries("read-as-service")
    ]
    assert ["read-as-service"] == await custody.alerts()
    assert [Lane.USER] * 2 == afar.wire.lanes


async def test_law_10_operator_rewraps_nothing(afar: "Afar", ref: ContainerRef) -> None:
    """Law 10: an operator takes no container from its policy, and makes no key of one that is there."""
    custodian = afar.caller("operator")
    with pytest.raises(NotPermitted, match="may not ask"):
        await custodian.rewrap_containers([ref], "q", afar.working("assign", None))
    for wrong in (replace(ref, generation=2), ContainerRef("acme", "fresh", 1)):
        with pytest.raises(NotPermitted, match="begins under the service policy"):
            await custodian.make_container_keys([wrong], "p", afar.working("add-mailbox", None))


async def test_law_10_new_site(custody: "Custody", afar: "Afar", ref: ContainerRef) -> None:
    """Law 10: an operator begins a site under the policy of a geo of that tenant, and under no other tenant's."""
    custodian, asker = afar.caller("operator"), afar.working("add-site", None)
    fresh, strange = ContainerRef(ref.tenant_id, "fresh", 1), ContainerRef("stranger", "fresh", 1)
    async with custody.store.begin(Cause("test")) as unit:
        row = {"state": "registered", "since": custody.store.clock.now(), "version": 1}
        await unit.execute(geos.insert().values(tenant_id=ref.tenant_id, geo="EUR", policy_id="p", **row))
    (made,) = await custodian.make_container_keys([fresh], "p", asker)

    assert ("p", fresh) == (made.policy_id, made.ref)
    with pytest.raises(NotPermitted, match="begins under the service policy"):
        await custodian.make_container_keys([strange], "p", asker)


async def test_refusals_are_not_waited_for(afar: "Afar", ref: ContainerRef) -> None:
    """A refusal is signed and comes at once: it is not asked for again."""
    with pytest.raises(NotPermitted) as refused:
        await _step(afar, ref, JobRef("nothing"))

    assert 1 == len(afar.wire.requests)
    assert refused.value.hint


async def test_container_that_is_gone(custody: "Custody", afar: "Afar", ref: ContainerRef) -> None:
    """A container that is gone is nobody's work any more."""
    job = await afar.job("reencrypt", REENCRYPTOR, container_id="gone")
    with pytest.raises(NotPermitted):
        await _step(afar, replace(ref, container_id="gone"), job)
    async with custody.store.read() as reader:
        assert await reader.row(containers.select())
        assert await reader.row(requests.select()) is None
