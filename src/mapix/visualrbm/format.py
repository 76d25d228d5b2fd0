"""The declaration of VisualRBM's models and schedules for the registry."""

from mapix.registry import Format

__all__ = ["FORMAT"]


def _may_be(front: bytes) -> bool:
    """Return whether a JSON object begins there, or an older binary model."""
    begin = front.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")
    return begin[:1] == b"{" or front[:4] == b".RBM" or not begin


FORMAT = Format(
    name="visualrbm",
    title="a model or a schedule of VisualRBM",
    open="mapix.visualrbm.opening:open_path",
    front=_may_be,
    detect="mapix.visualrbm.opening:refusal",
    source="mapix.visualrbm.conversion:stream",
    targets={
        "json": "mapix.visualrbm.conversion:Json",
        "safetensors": "mapix.visualrbm.conversion:Safetensors",
    },
    commands="mapix.visualrbm.commands:add",
    command_names={"visualrbm": "inspect models and schedules, and use them"},
)
