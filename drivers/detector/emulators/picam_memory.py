"""Memory of a simulated vendor library: blocks at addresses, as a program sees them through pointers."""

from __future__ import annotations

from labctl.errors import ConnectionLost

_FIRST_ADDRESS = 0x7F3A_0000_0000
_GAP = 64


class Memory:
    """Blocks that were given away; reading elsewhere crashes the library, as it does in C."""

    def __init__(self) -> None:
        self._blocks: dict[int, bytearray] = {}
        self._next = _FIRST_ADDRESS

    @property
    def blocks(self) -> int:
        """Get the number of blocks that were given away and not given back."""
        return len(self._blocks)

    def allocate(self, content: bytes) -> int:
        """Give a block with some content away; returns its address."""
        address = self._next
        self._blocks[address] = bytearray(content)
        self._next += -(-len(content) // _GAP) * _GAP + _GAP
        return address

    def free(self, address: int) -> bool:
        """Take a block back; False for an address at which none was given away."""
        return self._blocks.pop(address, None) is not None

    def read(self, address: int, size: int) -> bytes:
        """Read ``size`` bytes."""
        start, block = self._block(address, size)
        return bytes(block[address - start : address - start + size])

    def write(self, address: int, content: bytes) -> None:
        """Overwrite bytes."""
        start, block = self._block(address, len(content))
        block[address - start : address - start + len(content)] = content

    def text(self, address: int) -> str:
        """Read text up to its null character."""
        start, block = self._block(address, 1)
        return bytes(block[address - start :]).partition(b"\0")[0].decode("latin-1")

    def _block(self, address: int, size: int) -> tuple[int, bytearray]:
        for start, block in self._blocks.items():
            if start <= address and address + size <= start + len(block):
                return start, block
        raise ConnectionLost(f"the simulated library crashed: no memory of {size} bytes at 0x{address:X}")
