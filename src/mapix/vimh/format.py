"""The declaration of VIMH for the registry."""

from mapix.registry import Format

__all__ = ["FORMAT"]

FORMAT = Format(
    name="vimh",
    title="VIMH records",
    open="mapix.vimh.opening:open_path",
    files=(
        *("vimh_dataset_info.json", "train", "test", "train_batch", "test_batch"),
        *("data_batch_1", "train-00000-of-00001", "test-00000-of-00001"),
    ),
    detect="mapix.vimh.files:refusal",
    unmarked=True,
    source="mapix.vimh.conversion:stream",
    verify="mapix.vimh.checking:verify",
    targets={"vimh": "mapix.vimh.conversion:Vimh"},
    repair="mapix.vimh.salvage:repair",
    commands="mapix.vimh.commands:add",
    command_names={"vimh": "make datasets of sounds"},
)
