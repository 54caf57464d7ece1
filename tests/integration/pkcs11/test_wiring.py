"""An installation whose root keys and availability keys lie on tokens, beside the embedded vault."""

from dataclasses import asdict

import pytest

from cli.settings import Settings
from cli.wiring.vaults import open_vaults
from tests.integration.pkcs11.conftest import CONTEXT, OTHER, PAYLOAD, Bench

pytestmark = pytest.mark.servers


async def test_open_vaults(bench: Bench) -> None:
    """The settings decide where availability keys are made; one that was made elsewhere before is found there."""
    bench.make()
    tokens = asdict(bench.tokens.settings(bench.pin_file))
    kept = {"availability_vault": f"pkcs11:token={OTHER}"}
    settings = Settings.model_validate({"home": bench.folder, "pkcs11": tokens, "custody": kept})
    policy = bench.label
    async with open_vaults(settings, bench.clock) as (vaults, availability):
        root = await vaults.of(bench.uri).wrap(bench.uri, PAYLOAD, CONTEXT)
        made = [
            await availability.create(uri)
            for uri in (settings.custody.availability_uri(policy), "local://provider/availability-1")
        ]
        wrapped = [await availability.wrap(key.uri, PAYLOAD, CONTEXT) for key in made]
        opened = [await availability.unwrap(each, CONTEXT) for each in wrapped]

        assert PAYLOAD == await vaults.of(bench.uri).unwrap(root, CONTEXT)
        assert [PAYLOAD] * 2 == opened
        assert f"pkcs11:token={OTHER};object=availability-{policy}" == made[0].uri
        assert settings.custody.is_availability_uri(policy, made[0].uri)
        assert [True] * 2 == [(await availability.destroy(key.uri)).is_final for key in made]
