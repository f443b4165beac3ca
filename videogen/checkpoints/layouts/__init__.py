"""Published layouts, one family a file: each module holds its tables as `LAYOUT` and registers them.

Another installed package adds a family through an entry point in the group `videogen.checkpoints.layouts`, which names
a function without arguments that returns a `Layout`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from videogen.registry import Registry

if TYPE_CHECKING:
    from videogen.checkpoints.layout import Layout

LAYOUTS: Registry[Layout] = Registry("layout", "videogen.checkpoints.layouts")
