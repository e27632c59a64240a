"""Secrets of the environment, and what looks like one, are replaced wherever text is written."""

from entrobench.cli.program import run_script
from entrobench.errors import MissingInput
from entrobench.provenance.redaction import REPLACEMENT, is_secret_name, redact, redact_all

ENVIRONMENT = {
    "HF_TOKEN": "not-a-real-token",
    "WANDB_API_KEY": "0123456789abcdef",
    "AWS_SECRET_ACCESS_KEY": "not-a-real-token-either",
    "SHORT_TOKEN": "abc",
    "TOKENIZERS_PARALLELISM": "false-but-long",
    "HOME": "/home/user",
    "PROXY": "http://user:password@proxy:3128",
}


def test_names_of_secrets():
    secret = [
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "WANDB_API_KEY",
        "DB_PASSWORD",
        "OPENAI_APIKEY",
        "GH_AUTH",
    ]
    harmless = ["TOKENIZERS_PARALLELISM", "HOME", "SSH_AUTH_SOCK", "MAX_TOKENS", "PATH", "MONKEY"]
    assert all(map(is_secret_name, secret))
    assert not any(map(is_secret_name, harmless))


def test_values_are_replaced_in_text_and_nested_values():
    text = "GET https://hub/x?token=not-a-real-token failed; key 0123456789abcdef; abc false-but-long"
    assert redact(text, ENVIRONMENT) == (
        f"GET https://hub/x?token={REPLACEMENT} failed; key {REPLACEMENT}; abc false-but-long"
    )
    # The longer of two values that start alike goes whole
    assert redact("not-a-real-token-either", ENVIRONMENT) == REPLACEMENT
    nested = {"a": ["x not-a-real-token", 3, None], "not-a-real-token": {"b": True}}
    assert redact_all(nested, ENVIRONMENT) == {
        "a": [f"x {REPLACEMENT}", 3, None],
        REPLACEMENT: {"b": True},
    }


def test_what_looks_like_a_secret_is_replaced_without_the_environment():
    assert redact("hf_" + "a1" * 17, {}) == REPLACEMENT
    assert redact("Authorization: Bearer abcdefgh12345678", {}) == f"Authorization: Bearer {REPLACEMENT}"
    assert redact("https://user:pass@host/x", {}) == f"https://{REPLACEMENT}@host/x"
    assert redact("https://host:80/a@b and hf_hub_download", {}) == "https://host:80/a@b and hf_hub_download"


def test_an_error_of_a_download_is_printed_without_the_token(monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "not-a-real-token")

    def fail():
        raise MissingInput("the hub cannot be reached: GET /x?token=not-a-real-token")

    assert run_script(fail) == 1
    assert capsys.readouterr().err == f"MissingInput: the hub cannot be reached: GET /x?token={REPLACEMENT}\n"
