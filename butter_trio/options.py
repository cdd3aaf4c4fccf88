"""The options of every command that connects to a gateway, and the `Access` made of them.

Rules kept here:

* What cannot be read is wrong usage and names its option; no text repeats what may be a secret.
* A setup code is used where it is given: a token or password of the environment is then left
  aside, for the connector would use it first.
* A device is made at its first use and never otherwise, so not for a URL that is refused: its id
  is told, it has to be approved.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from click.core import ParameterSource

from butter_proto.device import Device
from butter_proto.device_auth import device_id
from butter_proto.endpoint import parse_url
from butter_proto.errors import InvalidSettings
from butter_proto.headers import Headers, to_headers
from butter_proto.pins import Pin, to_pins
from butter_proto.policy import check_transport
from butter_proto.proxy_address import ProxyAddress, parse_proxy
from butter_proto.secret import Secret, to_secret
from butter_proto.settings import Settings
from butter_proto.setup_code import SetupCode, parse_setup_code
from butter_trio.access import Access
from butter_trio.output import tell
from butter_trio.words import PASSWORD_VARIABLE, TOKEN_VARIABLE

_T = TypeVar("_T")


def _converted(convert: Callable[[str], _T]) -> Callable[[str], _T]:
    """Make a type of option: what it cannot convert is wrong usage."""

    def to_value(text: str) -> _T:
        try:
            return convert(text)
        except InvalidSettings as error:
            raise click.BadParameter(str(error)) from None

    return to_value


def _checked_url(text: str) -> str:
    parse_url(text)
    return text


def _to_header(text: str) -> Headers:
    name, colon, value = text.partition(":")
    if not colon:
        raise InvalidSettings("a header is 'Name: value'")
    return to_headers([(name.strip(), value.strip())])


def _to_context(path: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        raise InvalidSettings(f"{path} has no certificates in PEM") from None
    except OSError as error:
        raise InvalidSettings(f"cannot read {path}: {error.strerror}") from None


to_origin = _converted(lambda url: parse_url(url)[0].origin)
"""From a gateway's URL to what its device tokens belong to."""
token_option = click.option(
    "--token",
    type=_converted(to_secret),
    metavar="TOKEN",
    envvar=TOKEN_VARIABLE,
    help=f"Better set {TOKEN_VARIABLE}: other users of this machine may see a command line for a "
    "moment, until butter has hidden it; on Windows always.",
)


def urls_argument(command: Callable[..., _T]) -> Callable[..., _T]:
    """Make the argument ``urls``, of which there may be any number."""
    return click.argument("urls", nargs=-1, type=_converted(_checked_url), metavar="[URL]...")(
        command
    )


def url_argument(*, required: bool = True) -> Callable[[Callable[..., _T]], Callable[..., _T]]:
    """Make the argument ``url``; what is no gateway's URL is wrong usage."""
    return click.argument("url", required=required, type=_converted(_checked_url))


device_folder_option = click.option(
    "--device-folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Where the device is kept. Left out: OPENBUTTER_DEVICE_FOLDER, else your own data folder.",
)
_OPTIONS: Final = (
    token_option,
    click.option(
        "--password",
        type=_converted(to_secret),
        metavar="PASSWORD",
        envvar=PASSWORD_VARIABLE,
        help=f"For a gateway in password mode. Better set {PASSWORD_VARIABLE}.",
    ),
    click.option(
        "--device",
        is_flag=True,
        help="Connect as this machine's device, which is made at the first use, and keep the "
        "tokens that the gateway gives it.",
    ),
    device_folder_option,
    click.option(
        "--setup-code",
        type=_converted(parse_setup_code),
        metavar="CODE",
        help="Pair the device by what 'openclaw qr' gives, or by a bootstrap token.",
    ),
    click.option(
        "--pin",
        "pins",
        multiple=True,
        type=_converted(to_pins),
        metavar="SHA256",
        help="The gateway's certificate, or its key, must have this digest. May be repeated.",
    ),
    click.option(
        "--cafile",
        "ssl_context",
        type=_converted(_to_context),
        metavar="PEM",
        help="Trust the certificates in this file in place of the platform's.",
    ),
    click.option(
        "--allow-plaintext",
        is_flag=True,
        help="Let ws:// go to public hosts, in clear text.",
    ),
    click.option(
        "--header",
        "headers",
        multiple=True,
        type=_converted(_to_header),
        metavar="'NAME: VALUE'",
        help="Added to the upgrade request, over wss:// only. May be repeated.",
    ),
    click.option(
        "--proxy",
        type=_converted(parse_proxy),
        metavar="URL",
        help="http://[user:password@]host:port or socks5://... Loopback is never proxied.",
    ),
    click.option(
        "--trust-env",
        is_flag=True,
        help="Let HTTPS_PROXY, ALL_PROXY and NO_PROXY name a proxy.",
    ),
)
_NAMES: Final = (
    *("token", "password", "device", "device_folder", "setup_code", "pins", "ssl_context"),
    *("allow_plaintext", "headers", "proxy", "trust_env"),
)


def access_options(command: Callable[..., _T]) -> Callable[..., _T]:
    """Give a command these options; it takes what they come to as ``access``, an `Access`.

    A token in its argument ``url``, or in the only one of ``urls``, is taken as if given by
    ``--token``; of several each has its own.
    """

    @functools.wraps(command)
    def with_access(**arguments: Any) -> _T:
        given = {name: arguments.pop(name) for name in _NAMES}
        urls = [*arguments.get("urls", ()), *filter(None, [arguments.get("url")])]
        access = _access(**given, urls=urls)
        return command(access=access, **arguments)

    for option in reversed(_OPTIONS):
        with_access = option(with_access)
    return with_access


def _access(
    *,
    token: Secret | None,
    password: Secret | None,
    device: bool,
    device_folder: Path | None,
    setup_code: SetupCode | None,
    pins: Sequence[tuple[Pin, ...]],
    ssl_context: ssl.SSLContext | None,
    allow_plaintext: bool,
    headers: Sequence[Headers],
    proxy: ProxyAddress | None,
    trust_env: bool,
    urls: Sequence[str],
) -> Access:
    if not device and (setup_code is not None or device_folder is not None):
        raise click.UsageError("--setup-code and --device-folder are for a device: add --device")
    in_url = _token_in(urls[0]) if len(urls) == 1 else None
    if in_url is not None and not _on_the_command_line("token"):
        token = Secret(in_url)
    if setup_code is not None:
        if in_url is not None or _on_the_command_line("token", "password"):
            raise click.UsageError("--setup-code stands in place of --token and --password")
        token = password = None
    settings = Settings(
        token=token,
        password=password,
        bootstrap_token=None if setup_code is None else setup_code.bootstrap_token,
        allow_plaintext=allow_plaintext,
        pins=[pin for each in pins for pin in each],
        headers=[header for each in headers for header in each],
        proxy=proxy,
    )
    where = urls or ([] if setup_code is None or setup_code.url is None else [setup_code.url])
    may_be_used = all(_may_be_used(url, settings) for url in where)
    return Access(
        settings,
        device=_open_device(device_folder) if device and may_be_used else None,
        ssl_context=ssl_context,
        trust_env=trust_env,
        url=None if setup_code is None else setup_code.url,
    )


def _token_in(url: str) -> str | None:
    """Return the token in a URL. One that is none has none, and is told where it is used."""
    with suppress(InvalidSettings):
        return parse_url(url)[1]
    return None


def _may_be_used(url: str, settings: Settings) -> bool:
    """Tell whether a connection may be made there; if not, connecting says why."""
    try:
        check_transport(parse_url(url)[0], settings)
    except InvalidSettings:
        return False
    return True


def _on_the_command_line(*names: str) -> bool:
    source = click.get_current_context().get_parameter_source
    return any(source(name) is ParameterSource.COMMANDLINE for name in names)


def _open_device(folder: Path | None) -> Device:
    from butter_proto.storage import has_device, open_device  # noqa: PLC0415 - needs an extra

    is_new = not has_device(folder)
    device = open_device(folder)
    if is_new:
        tell(f"made a device for this machine: {device_id(device.signer.public_key)}")
    return device
