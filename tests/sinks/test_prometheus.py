"""The sink prometheus://: the page over real HTTP, read by Prometheus' own parser."""

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sink_events import alarm, estimate, expired, self_check

from ecgedge.errors import UsageError
from ecgedge.sinks.prometheus import open_prometheus


async def fetched(page):
    async with (
        aiohttp.ClientSession() as session,
        session.get(page.name.replace("prometheus:", "http:")) as answer,
    ):
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = await answer.text()
    return {
        (sample.name, *sorted((k, v) for k, v in sample.labels.items() if k != "mode")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }, text


def test_the_page_tells_what_is_known_now(run):
    async def main():
        page = await open_prometheus("prometheus://127.0.0.1:0")
        try:
            for event in (estimate(10.0, None), estimate(30.0, 17.25), self_check(), alarm(1.0)):
                page.put("bed7", "demo", event)
            page.put("bed7", "demo", alarm(2.0, presence="off"))
            page.put("bed7", "demo", alarm(3.0))
            page.put('odd"bed\n', "real", estimate(30.0, 12.0))
            before, text = await fetched(page)
            page.put("bed7", "demo", expired())
            after, _ = await fetched(page)
            assert page.status() == {"beds": 2, "delivery": "information only"}
            await page.room()
            return before, after, text
        finally:
            await page.close()
            await page.close()

    before, after, text = run(main())
    bed = ("bed", "bed7")
    assert before["ecgedge_mpcwp_mmhg", bed] == 17.25
    assert before["ecgedge_estimate_valid", bed] == 1.0
    assert before["ecgedge_signal_quality", bed] == 0.93
    assert before["ecgedge_windows_total", bed, ("validity", "invalid")] == 1.0
    assert 0.0 <= before["ecgedge_estimate_age_seconds", bed] < 30.0
    condition = ("condition", "MPCWP_ELEVATED")
    assert before["ecgedge_alarm_on", bed, condition, ("priority", "medium")] == 1.0
    assert before["ecgedge_alarm_onsets_total", bed, condition] == 2.0
    assert before["ecgedge_mpcwp_mmhg", ("bed", 'odd"bed\n')] == 12.0
    assert ("ecgedge_mpcwp_mmhg", bed) not in after, "an expired number is gone"
    assert 'mode="demo"' in text
    assert "Research use only" in text


def test_an_address_that_is_taken_and_a_wrong_uri(run):
    async def main():
        page = await open_prometheus("prometheus://127.0.0.1:0/m")
        with pytest.raises(UsageError, match="cannot listen there"):
            await open_prometheus(page.name)
        await page.close()
        for uri in ("prometheus://", "prometheus://host", "prometheus://host:9/x?a=b", "prometheus://host:x"):
            with pytest.raises(UsageError):
                await open_prometheus(uri)

    run(main())
