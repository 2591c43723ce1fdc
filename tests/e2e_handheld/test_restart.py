"""The box is started again: paired handhelds are in, revoked ones stay out, and trust lasts."""

from pathlib import Path

from tests.e2e_handheld import demo as rig
from tests.e2e_handheld.conftest import browser
from tests.e2e_handheld.demo import Screen, offer, pair, trust_by_hash


async def test_after_a_restart_the_paired_are_in_the_revoked_are_out_and_the_authority_is_the_same(
    tmp_path: Path,
) -> None:
    async with browser() as booth_http, browser() as kept_http, browser() as gone_http:
        with rig.running(tmp_path) as demo:
            booth = Screen(demo.booth, booth_http)
            await booth.sign_in("9001")
            offered = await offer(booth)
            trust = await trust_by_hash(offered)
            kept, gone = Screen(demo.lan, kept_http, trust), Screen(demo.lan, gone_http, trust)
            await pair(booth, kept, "留下的")
            gone_id = await pair(booth, gone, "收回的")
            await kept.sign_in("1001")
            assert (await booth.ask("DELETE", f"/api/pairings/{gone_id}"))[0] == 200
        demo.process.wait()
        with rig.running(tmp_path) as demo:
            kept.base = gone.base = demo.lan
            # The same trust serves: a box that made a new authority would cut every handheld off.
            assert (await kept.get("/api/session"))["owner"].startswith("handheld:")
            assert (await gone.ask("GET", "/api/session"))[0] == 401
            booth.base = demo.booth
            await booth.sign_in("9001")
            assert (await offer(booth)).ca == offered.ca
            await kept.look()
