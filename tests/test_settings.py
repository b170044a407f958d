"""servable.settings: one table; flag before environment before file before default."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.errors import SettingsError
from servable.settings import (
    SECTIONS,
    ModelSettings,
    ServerSettings,
    Setting,
    load_model_settings,
    load_server_settings,
    table,
)
from servable.settings.kinds import read_duration, read_size, show_duration, show_size

EVERY_KIND = pytest.mark.parametrize(
    "setting", {setting.kind.name: setting for setting in table()}.values(), ids=lambda setting: setting.kind.name
)
EVERY_SETTING = pytest.mark.parametrize("setting", table(), ids=lambda setting: setting.name)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def server(text: str = "", *, environ: dict[str, str] | None = None, **flags: object) -> ServerSettings:
    path = Path("given.toml")
    path.write_text(text)
    return load_server_settings(flags, environ=environ or {}, config=path).values


def refusal(text: str = "", *, environ: dict[str, str] | None = None, **flags: object) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        server(text, environ=environ, **flags)
    return caught.value


class TestPriority:
    def test_a_default_stands_where_nothing_is_said(self) -> None:
        assert server() == ServerSettings()

    def test_the_file_wins_over_the_default(self) -> None:
        assert server("rest_port = 1").rest_port == 1

    def test_the_environment_wins_over_the_file(self) -> None:
        assert server("rest_port = 1", environ={"SERVABLE_REST_PORT": "2"}).rest_port == 2

    def test_a_flag_wins_over_the_environment(self) -> None:
        assert server("rest_port = 1", environ={"SERVABLE_REST_PORT": "2"}, rest_port="3").rest_port == 3

    def test_a_flag_that_was_not_given_says_nothing(self) -> None:
        assert server("rest_port = 1", rest_port=None).rest_port == 1

    def test_an_empty_variable_says_nothing(self) -> None:
        assert server("rest_port = 1", environ={"SERVABLE_REST_PORT": ""}).rest_port == 1

    def test_every_value_knows_its_origin(self) -> None:
        Path("mine.toml").write_text("settle = 2")
        found = load_server_settings({"rest_port": 3}, environ={"SERVABLE_BATCH": "off"}, config="mine.toml")
        assert found.origins["rest_port"] == "flag --rest-port"
        assert found.origins["batch"] == "environment SERVABLE_BATCH"
        assert found.origins["settle"] == "file mine.toml"
        assert found.origins["bind"] == "default"

    def test_rows_show_values_as_people_write_them(self) -> None:
        shown = {row.setting.name: row.value for row in load_server_settings(environ={}).rows()}
        assert shown["max_body_size"] == "64MiB"
        assert shown["request_timeout"] == "30s"
        assert shown["insecure"] == "false"


class TestFile:
    def test_servable_toml_in_the_working_directory_is_read(self) -> None:
        Path("servable.toml").write_text("rest_port = 7")
        assert load_server_settings(environ={}).values.rest_port == 7

    def test_the_variable_names_another_file(self) -> None:
        Path("servable.toml").write_text("rest_port = 7")
        Path("other.toml").write_text("rest_port = 8")
        assert load_server_settings(environ={"SERVABLE_CONFIG": "other.toml"}).values.rest_port == 8

    def test_a_named_file_that_is_missing_is_an_error(self) -> None:
        with pytest.raises(SettingsError, match=r"Cannot read the settings file gone\.toml: No such file"):
            load_server_settings(environ={}, config="gone.toml")

    def test_text_that_is_not_toml_names_the_place(self) -> None:
        assert "line 1" in str(refusal("rest_port 1"))

    def test_broken_utf8_is_an_error(self) -> None:
        Path("bad.toml").write_bytes(b'bind = "\xff"')
        with pytest.raises(SettingsError, match="is not TOML"):
            load_server_settings(environ={}, config="bad.toml")

    def test_a_huge_file_is_refused_without_reading_it_whole(self) -> None:
        assert "larger than" in str(refusal("#" * (1 << 20) + "\n"))

    @pytest.mark.parametrize("opening", ["[", "{a="])
    def test_deep_nesting_is_an_error_and_not_a_crash(self, opening: str) -> None:
        assert refusal("labels = " + opening * 100_000)

    def test_an_unknown_key_is_an_error_with_the_nearest_name(self) -> None:
        error = refusal("rest_prot = 1")
        assert "There is no setting 'rest_prot' here (given.toml)" in str(error)
        assert error.hint == "did you mean rest_port?"

    def test_the_name_of_a_flag_leads_to_its_setting(self) -> None:
        assert refusal("port = 1").hint == "did you mean grpc_port?"

    def test_a_key_like_no_other_leads_to_the_list(self) -> None:
        assert refusal("zzz = 1").hint == "servable config lists the settings"

    def test_a_table_is_explained(self) -> None:
        assert refusal("[zzz]\nrest_port = 1").hint == "settings stand at the top of the file, not in [tables]"

    def test_a_key_for_one_model_is_sent_to_the_file_of_that_model(self) -> None:
        assert "folder of that model" in str(refusal("[labels]\nstable = 1").hint)


class TestEnvironment:
    def test_a_slip_in_a_variable_is_an_error(self) -> None:
        error = refusal(environ={"SERVABLE_RESTPORT": "1"})
        assert "SERVABLE_RESTPORT" in str(error)
        assert error.hint == "did you mean SERVABLE_REST_PORT?"

    def test_the_name_of_a_flag_is_a_slip_too(self) -> None:
        assert refusal(environ={"SERVABLE_PORT": "1"}).hint == "did you mean SERVABLE_GRPC_PORT?"

    def test_variables_of_other_programs_are_let_be(self) -> None:
        assert server(environ={"SERVABLE_QUICKSTART": "1", "PATH": "/bin"}) == ServerSettings()

    def test_what_kubernetes_sets_for_a_service_of_our_name_is_let_be(self) -> None:
        links = {
            "SERVABLE_PORT": "tcp://10.0.0.1:8500",
            "SERVABLE_SERVICE_HOST": "10.0.0.1",
            "SERVABLE_SERVICE_PORT_REST": "8501",
            "SERVABLE_PORT_8500_TCP_ADDR": "10.0.0.1",
        }
        assert server(environ=links) == ServerSettings()

    def test_a_service_link_in_the_place_of_a_port_is_explained(self) -> None:
        error = refusal(environ={"SERVABLE_REST_PORT": "tcp://10.0.0.1:8501"})
        assert "Kubernetes" in str(error.hint)


class TestValues:
    def test_an_error_names_setting_value_and_origin(self) -> None:
        assert str(refusal(rest_port="x")) == (
            "rest_port must be a port from 0 to 65535 or off, not 'x' (flag --rest-port)"
        )

    @pytest.mark.parametrize("port", ["65536", "-1", "1.5", "", "0x10", "٣", "9" * 5000, True, 1.0, []])
    def test_bad_ports_are_refused(self, port: object) -> None:
        assert "rest_port" in str(refusal(rest_port=port))

    def test_a_port_can_be_off(self) -> None:
        assert server(rest_port="off").rest_port is None

    @pytest.mark.parametrize(
        ("text", "size"),
        [("0", 0), ("64MiB", 64 << 20), ("64m", 64 << 20), ("1.5KiB", 1536), ("2 GB", 2 * 10**9), ("10b", 10), (7, 7)],
    )
    def test_sizes_have_units(self, text: object, size: int) -> None:
        assert server(max_body_size=text).max_body_size == size

    @pytest.mark.parametrize("text", ["", "MiB", "-1", "1XB", "1e3", "1..2k", "9" * 19 + "t", True, 1.5])
    def test_bad_sizes_are_refused(self, text: object) -> None:
        assert "such as 64MiB" in str(refusal(max_body_size=text)) or "8 EiB" in str(refusal(max_body_size=text))

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("1h30m", 5400.0),
            ("250ms", 0.25),
            ("1.5s", 1.5),
            ("2", 2.0),
            (2, 2.0),
            (0.5, 0.5),
            ("100us", 1e-4),
            ("1d", 86400),
        ],
    )
    def test_times_have_units(self, text: object, seconds: float) -> None:
        assert server(request_timeout=text).request_timeout == pytest.approx(seconds)

    @pytest.mark.parametrize(
        "text", ["", "s", "-1s", "1 year", "1e9", "999d", -1, float("nan"), float("inf"), 10**400, True]
    )
    def test_bad_times_are_refused(self, text: object) -> None:
        assert "request_timeout" in str(refusal(request_timeout=text))

    @pytest.mark.parametrize(
        ("given_as", "policy"),
        [("latest", "latest:1"), ("latest:3", "latest:3"), ("ALL", "all"), ("5,3", "3,5"), ([2, 1], "1,2"), (7, "7")],
    )
    def test_version_policies_have_one_spelling(self, given_as: object, policy: str) -> None:
        assert server(version_policy=given_as).version_policy == policy

    @pytest.mark.parametrize("text", ["", "latest:0", "latest:-1", "newest", "1,x", "-1", [], True, [1.5]])
    def test_bad_version_policies_are_refused(self, text: object) -> None:
        assert "version_policy must be" in str(refusal(version_policy=text))

    @pytest.mark.parametrize("word", ["true", "1", "Yes", "on", True])
    def test_words_for_true_are_understood(self, word: object) -> None:
        assert server(tensor_content=word).tensor_content is True

    @pytest.mark.parametrize("word", ["", "2", "ja", 1, None.__class__])
    def test_words_that_are_neither_true_nor_false_are_refused(self, word: object) -> None:
        assert "tensor_content must be true or false" in str(refusal(tensor_content=word))

    def test_a_choice_outside_the_list_is_refused(self) -> None:
        assert "must be one of auto, on, off, not 'maybe'" in str(refusal(batch="maybe"))

    def test_a_long_wrong_value_is_cut_in_the_message(self) -> None:
        assert len(str(refusal(rest_port="x" * 100_000))) < 300

    @pytest.mark.parametrize("path", ["metrics", "/a?b", "/a b", ""])
    def test_a_metrics_path_that_no_request_can_match_is_refused(self, path: str) -> None:
        assert "metrics_path must be a path" in str(refusal(metrics_path=path))

    @given(st.integers(0, 2**63 - 1))
    def test_a_shown_size_reads_back(self, size: int) -> None:
        assert read_size(show_size(size)) == size

    @given(st.integers(0, 366 * 86400 * 10**6))
    def test_a_shown_time_reads_back_to_the_microsecond(self, microseconds: int) -> None:
        assert round(read_duration(show_duration(microseconds / 1e6)) * 1e6) == microseconds

    @EVERY_KIND
    @given(raw=st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.lists(st.text()), st.none()))
    def test_whatever_comes_is_read_or_refused(self, setting: Setting, raw: object) -> None:
        with contextlib.suppress(ValueError):
            value = setting.kind.read(raw)
            assert setting.kind.read(setting.kind.show(value)) == value


class TestTogether:
    def test_an_address_beyond_loopback_needs_consent(self) -> None:
        assert "--insecure" in str(refusal(bind="0.0.0.0").hint)
        assert server(bind="0.0.0.0", insecure=True).bind == "0.0.0.0"

    def test_tokens_or_certificates_of_clients_are_consent_too(self) -> None:
        tls = {"tls_cert": "c", "tls_key": "k", "tls_client_ca": "a"}
        assert server(bind="0.0.0.0", tokens="t").tokens == "t"
        assert server(bind="0.0.0.0", **tls).tls_client_ca == "a"
        assert "--insecure" in str(refusal(bind="0.0.0.0", **tls, tls_client_verify="optional").hint)
        assert "--insecure" in str(refusal(bind="0.0.0.0", tls_cert="c", tls_key="k").hint)

    def test_certificate_and_key_belong_together(self) -> None:
        assert "tls_key" in str(refusal(tls_cert="c"))
        assert "tls_cert" in str(refusal(tls_key="k"))
        assert "tls_client_ca" in str(refusal(tls_client_ca="a"))

    def test_the_variable_of_a_clients_token_is_no_slip(self) -> None:
        assert load_server_settings({}, environ={"SERVABLE_TOKEN": "svb_x"}).values.tokens == ""

    @pytest.mark.parametrize("address", ["127.0.0.1", "127.3.4.5", "::1", "[::1]", "localhost"])
    def test_loopback_addresses_need_none(self, address: str) -> None:
        assert server(bind=address).bind == address.strip("[]")

    @pytest.mark.parametrize("address", ["", "a b", "http://x", "127.0.0.1:80/", "[::1"])
    def test_an_address_that_is_none_is_refused(self, address: str) -> None:
        assert "bind must be an address" in str(refusal(bind=address))

    def test_a_host_name_counts_as_beyond_loopback(self) -> None:
        assert refusal(bind="example.org")

    def test_two_listeners_cannot_have_one_port(self) -> None:
        assert "are both 9000" in str(refusal(rest_port=9000, grpc_port=9000))
        assert server(rest_port=0, grpc_port=0).rest_port == 0

    def test_a_server_must_listen_somewhere(self) -> None:
        assert "are both off" in str(refusal(rest_port="off", grpc_port="off"))
        assert server(rest_port="off", grpc_port="off", grpc_socket_path="/tmp/s").grpc_socket_path == "/tmp/s"

    def test_the_last_allowed_batch_size_is_the_largest_batch(self) -> None:
        assert refusal(allowed_batch_sizes="1,8", max_batch_rows=32)
        assert server(allowed_batch_sizes="1,8", max_batch_rows=8).allowed_batch_sizes == (1, 8)


class TestOneModel:
    def model(self, text: str, base: ServerSettings | None = None) -> ModelSettings:
        Path("servable.toml").write_text(text)
        return load_model_settings(".", base).values

    def test_without_a_file_it_has_the_settings_of_the_server(self, tmp_path: Path) -> None:
        found = load_model_settings(tmp_path, ServerSettings(max_batch_rows=8))
        assert found.values.max_batch_rows == 8
        assert found.origins["max_batch_rows"] == "server"

    def test_its_file_wins_over_the_server(self) -> None:
        text = 'version_policy = "all"\nswap_policy = "resource"\n[labels]\nstable = 2'
        found = self.model(text, ServerSettings(version_policy="latest:2"))
        assert found == ModelSettings(version_policy="all", swap_policy="resource", labels={"stable": 2})

    def test_a_setting_of_the_whole_server_is_refused_there(self) -> None:
        with pytest.raises(SettingsError) as caught:
            self.model("rest_port = 1")
        assert caught.value.hint == "rest_port is for the whole server, not for one model"

    @pytest.mark.parametrize("labels", ["{stable = 'x'}", "{'a b' = 1}", "{stable = -1}", "{a = {b = 1}}", "['x']"])
    def test_bad_labels_are_refused(self, labels: str) -> None:
        with pytest.raises(SettingsError, match="labels must be names with version numbers"):
            self.model(f"labels = {labels}")


class TestTable:
    def test_names_flags_and_variables_are_unique(self) -> None:
        rows = table(ServerSettings)
        for column in ("name", "flag", "environment"):
            assert len({getattr(row, column) for row in rows}) == len(rows)

    @EVERY_SETTING
    def test_the_default_is_a_value_of_its_kind(self, setting: Setting) -> None:
        assert setting.kind.read(setting.kind.show(setting.default)) == setting.default

    @EVERY_SETTING
    def test_the_help_is_one_sentence_without_a_full_stop(self, setting: Setting) -> None:
        assert setting.help
        assert not setting.help.endswith(".")
        assert setting.section in SECTIONS

    def test_the_grpc_port_has_the_flag_of_tensorflow_serving(self) -> None:
        assert next(row.flag for row in table() if row.name == "grpc_port") == "--port"

    def test_what_one_model_may_set_is_marked(self) -> None:
        marked = {row.name for row in table() if row.per_model}
        assert marked == {field.name for field in dataclasses.fields(ModelSettings)}
