"""Steps that make data: built-in rooms, and proposals for what is trained and scored on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xmodal_cli.data.prepared import DESCRIPTION, PreparedData
from xmodal_cli.data.proposals import stored_methods
from xmodal_cli.datasets.rooms.prepare import prepare_rooms, rooms_are_there
from xmodal_cli.datasets.rooms.settings import RoomsSettings
from xmodal_cli.detect.propose import ProposalSettings, prepare_proposals
from xmodal_cli.runs.session import Watchers


@dataclass(frozen=True)
class Rooms:
    """The scenes of a study.

    Args:
        settings: which, and where.
        title: what they are, in words.
        name: of the step.
    """

    settings: RoomsSettings
    title: str = "rooms: colour images and HHA"
    name: str = "rooms"

    def finished(self) -> bool:
        """Whether they are all there.

        Raises:
            SettingsError: another data set lies in their place.
        """
        return rooms_are_there(self.settings)

    def carry_out(self, watchers: Watchers) -> None:
        """Make those that are missing."""
        prepare_rooms(self.settings, watchers.filling)

    def seconds(self) -> None:
        """Nothing is trained."""
        return


@dataclass(frozen=True)
class Boxes:
    """Proposals for the images of a study.

    Args:
        data: the prepared data set.
        settings: how many, from what, for which splits.
        title: what they are, in words.
        name: of the step.
    """

    data: Path
    settings: ProposalSettings
    title: str = "object proposals"
    name: str = "proposals"

    def finished(self) -> bool:
        """Whether they are stored."""
        if not (self.data / DESCRIPTION).is_file():
            return False
        return self.settings.stored_name in stored_methods(PreparedData.open(self.data))

    def carry_out(self, watchers: Watchers) -> None:
        """Make them."""
        prepare_proposals(PreparedData.open(self.data), self.settings, watchers.filling)

    def seconds(self) -> None:
        """Nothing is trained."""
        return
