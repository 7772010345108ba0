"""Places for the labels of points, so that no two labels overlap. A label without a free place is left out."""

from __future__ import annotations

from collections.abc import Sequence

CHARACTER, LINE = 6.6, 15.0  # size of a character in pixels, rounded up
GAP = 9.0  # distance in pixels between the middle of a point and its label
# Text position of Plotly -> direction of the label from its point: right is 1, left is -1, up is 1, down is -1.
PLACES = {"top right": (1, 1), "top left": (-1, 1), "bottom right": (1, -1), "bottom left": (-1, -1), "middle right": (1, 0),
          "middle left": (-1, 0)}

Box = tuple[float, float, float, float]  # left, bottom, right, top


def places_of(points: Sequence[tuple[float, float]], labels: Sequence[str], size: tuple[float, float],
              ) -> list[str | None]:
    """Return the text position of each label, or None for a label that finds no free place. Earlier labels take precedence.

    Args:
        points: one (x, y) in pixels per label, from the lower left corner of the plot.
        labels: text of each label, in one line.
        size: width and height of the plot in pixels. Labels stay inside.
    """
    taken: list[Box] = [(x - GAP / 2, y - GAP / 2, x + GAP / 2, y + GAP / 2) for x, y in points]
    found: list[str | None] = []
    for number, (point, label) in enumerate(zip(points, labels, strict=True)):
        others = [box for place, box in enumerate(taken) if place != number]
        boxes = {name: _box(point, label, direction) for name, direction in PLACES.items()}
        free = [name for name, box in boxes.items() if _inside(box, size) and not any(_overlap(box, one) for one in others)]
        found.append(free[0] if free else None)
        if free:
            taken.append(boxes[free[0]])
    return found


def _box(point: tuple[float, float], label: str, direction: tuple[int, int]) -> Box:
    (x, y), (right, up), width = point, direction, CHARACTER * len(label)
    left = x + GAP / 2 if right > 0 else x - GAP / 2 - width
    bottom = y + GAP / 2 if up > 0 else y - GAP / 2 - LINE if up < 0 else y - LINE / 2
    return left, bottom, left + width, bottom + LINE


def _inside(box: Box, size: tuple[float, float]) -> bool:
    return box[0] >= 0 and box[1] >= 0 and box[2] <= size[0] and box[3] <= size[1]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
