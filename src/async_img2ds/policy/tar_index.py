"""Where in a tar each of its members lies, so that one is read without those before it: as webshart reads it.

An object of the archive's name and size, and by name of each member the ``offset`` of its content and its ``length``;
of images also ``width`` and ``height``, by which webshart gathers those of one shape.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BLOCK", "END", "Member", "TarIndex"]

# A tar is made of blocks of so many bytes: each header is one, and contents are filled up to whole ones.
BLOCK: Final = 512
# What an archive ends with.
END: Final = bytes(2 * BLOCK)


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a tar: where its content begins, how long it is, and the pixels of an image if they are told."""

    offset: int
    length: int
    width: int | None = None
    height: int | None = None


@dataclass(slots=True)
class TarIndex:
    """The members of the archive *name* by their names, and its *size* in bytes."""

    name: str
    size: int = len(END)
    members: dict[str, Member] = field(default_factory=dict)

    def append(self, name: str, length: int, width: int | None = None, height: int | None = None) -> None:
        """Take in that the member *name* was added at the end of an archive that has no others than these."""
        begin = self.size - len(END)
        self.members[name] = Member(begin + BLOCK, length, width, height)
        self.size += BLOCK + length + -length % BLOCK

    def to_json(self) -> Iterator[bytes]:
        """Yield the file, a member a line."""
        geometry = any(member.width is not None for member in self.members.values())
        head = orjson.dumps({"path": self.name, "filesize": self.size, "includes_image_geometry": geometry})
        yield head[:-1] + b',"files":{'
        for number, (name, member) in enumerate(self.members.items()):
            told: dict[str, Any] = {"offset": member.offset, "length": member.length}
            if member.width is not None and member.height is not None:
                told |= {"width": member.width, "height": member.height}
            yield (b",\n" if number else b"\n") + orjson.dumps(name) + b":" + orjson.dumps(told)
        yield b"\n}}\n"

    @classmethod
    def parse(cls, content: bytes) -> TarIndex:
        """Read such a file.

        Raises:
            ValueError: it is none.

        """
        try:
            told = orjson.loads(content)
            members = {
                name: Member(one["offset"], one["length"], one.get("width"), one.get("height"))
                for name, one in told["files"].items()
            }
            return cls(told["path"], told["filesize"], members)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"no index of a tar: {type(error).__name__}: {error}") from None

    def differences(self, other: TarIndex) -> Iterator[tuple[str | None, str]]:
        """Yield in what this is not the *other*, which is true: the member, if it is one's, and what is wrong.

        Pixels are not compared: an archive does not tell them.
        """
        if self.name != other.name:
            yield None, f"is of {self.name}"
        if self.size != other.size:
            yield None, f"says that {other.name} has {self.size} bytes, and it has {other.size}"
        for name in other.members.keys() - self.members.keys():
            yield name, "is not in it"
        for name in self.members.keys() - other.members.keys():
            yield name, f"is in it and not in {other.name}"
        for name in self.members.keys() & other.members.keys():
            here, there = self.members[name], other.members[name]
            if (here.offset, here.length) != (there.offset, there.length):
                yield (
                    name,
                    f"has {here.length} bytes at {here.offset}, and in {other.name} {there.length} at {there.offset}",
                )
