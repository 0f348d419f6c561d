"""The sink webhook: with a real HTTP server; the Standard Webhooks library checks what we sign."""

import base64
import json

import pytest
from sink_events import alarm, authorities, estimate, first_delivery, http_server, outbox, until
from standardwebhooks.webhooks import Webhook

from ecgedge.errors import UsageError
from ecgedge.sinks.webhook import open_webhook, read_key, sign

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "webhook.secret"
    path.write_text(SECRET + "\n")
    return path


def test_what_arrives_is_signed_and_in_order(run, secret):
    async def main():
        async with http_server() as server:
            uri = f"webhook:http://127.0.0.1:{server.port}/take?key=1#secret={secret}"
            async with outbox(open_webhook(uri)) as box:
                box.put("a", "demo", estimate())
                box.put("b", "demo", alarm())
                await until(lambda: box.delivered == 2)
                assert "key" not in box.name
            return server.requests

    requests = run(main())
    events = []
    for path, headers, body in requests:
        assert path == "/take"
        document = Webhook(SECRET).verify(body.decode(), {k.lower(): v for k, v in headers.items()})
        events += (document or json.loads(body))["data"]["events"]
    assert [(e["bed"], e["type"], e["mode"]) for e in events] == [
        ("a", "estimate", "demo"),
        ("b", "alarm", "demo"),
    ]


def test_the_example_of_the_standard():
    """Standard Webhooks 1.0, the example of its libraries' tests."""
    key = read_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = sign(
        key, message_id="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp_s=1614265330, body=b'{"test": 2432232314}'
    )
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_errors_of_the_server_are_tried_again_with_the_same_id(run):
    async def main():
        async with http_server() as server:
            server.answers = [503, 429, 401, 404, 200]
            async with outbox(open_webhook(f"webhook:http://127.0.0.1:{server.port}/")) as box:
                box.put("a", "real", alarm())
                await until(lambda: box.delivered == 1)
            return server.requests

    requests = run(main())
    assert len(requests) == 5
    assert len({headers["webhook-id"] for _, headers, _ in requests}) == 1
    assert len({body for _, _, body in requests}) == 1


def test_a_refusal_and_a_redirect(run):
    async def main():
        async with http_server() as server:
            server.answers = [422, 200]
            async with outbox(open_webhook(f"webhook:http://127.0.0.1:{server.port}/")) as box:
                box.put("a", "real", alarm())
                await until(lambda: box.refused)
                assert "answered 422" in box.trouble
                server.answers = [302]
                box.put("a", "real", alarm())
                await until(lambda: "302" in (box._failure or ""))
                server.answers = [204]
                await until(lambda: box.delivered == 1)

    run(main())


def test_a_server_that_is_not_there_yet(run, unused_port):
    async def main():
        async with outbox(open_webhook(f"webhook:http://127.0.0.1:{unused_port}/")) as box:
            box.put("a", "real", alarm())
            await until(lambda: box.trouble is not None)
            assert "cannot be reached" in box.trouble
            async with http_server(port=unused_port) as server:
                await until(lambda: box.delivered == 1)
                return len(server.requests)

    assert run(main()) == 1


def test_tls_and_a_wrong_authority(run, tmp_path):
    context, ours, other = authorities(tmp_path)

    async def main(ca):
        async with (
            http_server(tls=context) as server,
            outbox(open_webhook(f"webhook:https://127.0.0.1:{server.port}/#ca={ca}")) as box,
        ):
            return await first_delivery(box)

    assert run(main(ours)) == (1, None)
    delivered, trouble = run(main(other))
    assert delivered == 0
    assert "certificate" in trouble.lower()


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("webhook:ftp://host/", "expected http"),
        ("webhook:https://me:pw@host/", "ends up in logs"),
        ("webhook:https://host/#colour=red", "colour is unknown"),
        ("webhook:https://host/#secret=/no/file", "cannot be read"),
        ("webhook:https://host:99999/", "expected an address"),
    ],
)
def test_a_wrong_uri_is_named(uri, said):
    with pytest.raises(UsageError, match=said):
        open_webhook(uri)


@pytest.mark.parametrize("text", ["whsec_!!", "whsec_c2hvcnQ="])
def test_a_weak_secret_is_refused(text):
    with pytest.raises(UsageError, match="openssl rand"):
        read_key(text)
