"""Tests against a real gateway process: ``pytest -m live tests/live``.

| what a test needs | where |
|---|---|
| a gateway: shared secret, TLS, a proxy believed, another time, signals | real_gateway.RealGateway |
| one that is running already | the fixtures of conftest.py |
| to connect over both adapters, and to watch | scenario |
| a remote client: an address of its own, over ws or wss | remote_relay |
| to restart one: SIGKILL, SIGTERM, SIGUSR2 | restarts |
| what each of several has executed | executions.Ledger |
| a stream of events from each of several | feed |
| a slow line | narrow_relay |
| a line that is cut, reset, stalled, on which answers are lost... | tests/chaos/proxy.py |
| somebody in between who replays a challenge | replaying_relay |
| a device in files, in this process and in others | kept_device |
| a proxy | tests/local_proxies.py |
| approve, reject, rotate, revoke, remove; a setup code | openclaw_cli.OpenClaw |
| a device's key; the frames as they are on the wire | raw_socket |
| certificates, their pins, and contexts that trust them | certificates |
| a model that answers | fake_model |
"""
