from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamwatch.urls import (
    is_device,
    is_live,
    local_path,
    redact,
    scheme_of,
    split_credentials,
    with_credentials,
)

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://cam:hunter2@host:554/live?x=1", "rtsp://***@host:554/live?x=***"),
        ("rtsp://first.last:hunter2@host/live", "rtsp://***@host/live"),
        ("rtsp://:hunter2@host/live", "rtsp://***@host/live"),
        ("rtsp://hunter2@host/live", "rtsp://***@host/live"),
        ("RTSP://cam:hun@ter2@host/live", "RTSP://***@host/live"),
        ("rtsp://cam:a/hunter2@host/live", "rtsp://***@host/live"),
        ("rtsp://cam:a?hunter2@host/live", "rtsp://***@host/live"),
        ("rtsp://cam:a#hunter2:b@host/live", "rtsp://***@host/live"),
        ("rtsp://cam:12/hunter2@host/live", "rtsp://***@host/live"),
        ("rtsp://cam:100%hunter2@[::1]:554/live", "rtsp://***@[::1]:554/live"),
        ("http://host/v.cgi?usr=hunter2&pwd=hunter2&res=hd", "http://host/v.cgi?usr=***&pwd=***&res=***"),
        ("http://host/v?password=hunter2%26x&access_token=hunter2", "http://host/v?password=***&access_token=***"),
        ("http://host/v?api_key=hunter2#hunter2key=hunter2", "http://host/v?api_key=***"),
        ("rtsp://host/user=admin_password=hunter2_channel=1.sdp", "rtsp://host/user=***_password=***_channel=***"),
        ("http://host/v?user=admin&pw=hunter2", "http://host/v?user=***&pw=***"),
        ("http://host/v?p=hunter2;pin=hunter2&jwt=a.hunter2", "http://host/v?p=***;pin=***&jwt=***"),
        ("http://host/v?code=x&hunter2", "http://host/v?code=***&***"),
        ("http://host/v?hunter2", "http://host/v?***"),
        ("http://host/v#t=hunter2", "http://host/v#t=***"),
        ("http://host/v?a=&b=hunter2?x=hunter2", "http://host/v?a=&b=***"),
        ("rtsp:host//cam:hunter2@host/v?p=hunter2", "rtsp:host//***@host/v?p=***"),
        ("host/v?p=hunter2", "host/v?p=***"),
        ("/video/why?.mp4", "/video/why?.mp4"),
        ("http://host/mail?from=a@b.org", "http://***@b.org"),
        ("udp://127.0.0.1:5004", "udp://127.0.0.1:5004"),
        ("/video/of user@home:1.mp4", "/video/of user@home:1.mp4"),
        ("cam:hunter2@host/v?p=hunter2", "***@host/v?p=***"),
        ("/config/rtsp/cam:a/hunter2@x@host/v", "/config/rtsp/***@host/v"),
        ("0", "0"),
    ],
)
def test_a_shown_url_keeps_the_host_and_hides_what_is_secret(url: str, shown: str) -> None:
    assert redact(url) == shown
    assert SECRET not in redact(url)


@given(
    user=st.text(alphabet="abcXYZ01@:/?#%&= .é", max_size=12),
    password=st.text(alphabet="abcXYZ01@:/?#%&= .é", min_size=1, max_size=20),
)
def test_any_password_survives_the_way_into_a_url_and_is_hidden_again(user: str, password: str) -> None:
    # Given any user and password
    url = with_credentials("rtsp://host:554/live?x=1", username=user, password=password)
    # When the URL is taken apart, and shown
    bare, user_back, password_back = split_credentials(url)
    # Then nothing is lost, and nothing is seen
    assert (bare, user_back, password_back) == ("rtsp://host:554/live?x=1", user, password)
    assert redact(url) == "rtsp://***@host:554/live?x=***"


@given(password=st.text(alphabet="abcXYZ01@:/?#&=", min_size=1, max_size=20))
def test_a_password_that_nobody_encoded_is_hidden_all_the_same(password: str) -> None:
    # Given a URL as somebody typed it, the password between two marks that must not be seen
    url = f"rtsp://cam:<{password}>@host/live"
    # When / Then
    assert "<" not in redact(url)
    assert ">" not in redact(url)


@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("rtsp://cam:p%40ss@host/live", "p@ss"),
        ("rtsp://cam:p@ss:w%rd@host/live", "p@ss:w%rd"),
        ("rtsp://cam:p@ss:w%rd/x@host:554/live", "p@ss:w%rd/x"),
        ("rtsp://cam:@host/live", ""),
        ("rtsp://cam@host/live", None),
        ("rtsp://host/live@2x", None),
    ],
)
def test_credentials_are_found_in_a_url(url: str, password: str | None) -> None:
    bare, _, found = split_credentials(url)
    assert found == password
    assert "@" not in bare.removesuffix("@2x")


def test_given_credentials_win_over_those_of_the_url() -> None:
    url = with_credentials("rtsp://old:older@host/live", username="new", password="50%/@")
    assert url == "rtsp://new:50%25%2F%40@host/live"
    assert unquote(url).startswith("rtsp://new:50%/@@")


def test_a_url_says_what_kind_of_source_it_is() -> None:
    assert all(is_device(url) for url in ("0", "12", "/dev/video3"))
    assert not any(is_device(url) for url in ("", "/dev/null", "video0", "0.mp4", "٣"))
    assert all(
        is_live(url) for url in ("rtsp://h/x.mp4", "udp://h:1", "http://h/mjpg?x=a.mp4", "https://h/live.m3u8", "0")
    )
    assert not any(is_live(url) for url in ("/a.mp4", "file:///a.mp4", "http://h/a.MP4?token=1", "folder"))
    assert scheme_of("RTSPS://h") == "rtsps"
    assert scheme_of("C:/x") is None
    assert str(local_path("file:///a%20b.mp4")) == "/a b.mp4"
