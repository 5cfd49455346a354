"""The prompt that everything needs."""

from __future__ import annotations

from rerender.errors import ConfigError


def require_prompt(prompt: str | None) -> str:
    """The prompt, as it is.

    Raises:
        ConfigError: it is missing or blank.
    """
    if prompt is None or not prompt.strip():
        cure = 'say what the result should show: prompt="an oil painting"'
        raise ConfigError("prompt", f"is empty, received {prompt!r}", cure)
    return prompt
