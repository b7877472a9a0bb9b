"""Ring buffers: which item comes next, and how often."""

import random

import pytest

from mmlocal.engine.loops.replay.buffer import RingBuffer


def filled(items, **kwargs) -> RingBuffer:
    buffer = RingBuffer(**kwargs)
    for item in items:
        buffer.write(item)
    return buffer


def reads(buffer, count):
    return [buffer.read() for _ in range(count)]


def test_least_used_first_then_last_written():
    buffer = filled('abc', size=4)
    assert reads(buffer, 3) == ['c', 'b', 'a']
    # All were used once; what is new comes before them.
    buffer.write('d')
    assert reads(buffer, 5) == ['d', 'd', 'c', 'b', 'a']


def test_a_full_ring_forgets_the_oldest_read_or_not():
    buffer = filled('abcde', size=3)
    assert sorted(buffer.items) == ['c', 'd', 'e'] and len(buffer) == 3
    assert reads(buffer, 4) == ['e', 'd', 'c', 'e']


def test_empty():
    assert RingBuffer(size=3).read() is None


@pytest.mark.parametrize('size', [1, 2, 5])
@pytest.mark.parametrize('max_reuse', [1, 2, 3])
def test_max_reuse(size, max_reuse):
    """Each item is handed out exactly so often."""
    items = list(range(size))
    buffer = filled(items, size=size, max_reuse=max_reuse)
    found = reads(buffer, size * max_reuse)
    assert sorted(found) == sorted(items * max_reuse)
    assert buffer.read() is None
    buffer.write('new')
    assert reads(buffer, max_reuse + 1) == ['new'] * max_reuse + [None]


@pytest.mark.parametrize('size', [2, 3])
@pytest.mark.parametrize('max_reuse', [2, 3])
def test_max_reuse_as_published(size, max_reuse):
    """Writing is the first use."""
    items = list(range(size))
    kwargs = {'max_reuse': max_reuse, 'as_published': True}
    buffer = filled(items, size=size, **kwargs)
    assert buffer.uses == [1] * size
    found = reads(buffer, size * (max_reuse - 1))
    assert sorted(found) == sorted(items * (max_reuse - 1))
    assert buffer.read() is None


def test_one_slot_as_published_never_counts():
    buffer = filled('a', max_reuse=2, as_published=True)
    assert reads(buffer, 50) == ['a'] * 50
    assert buffer.uses == [1]


def test_off_by_one_as_published():
    """In a full ring the oldest is taken for the newest."""
    buffer = filled('ab', size=3, as_published=True)
    assert reads(buffer, 2) == ['b', 'a']
    buffer = filled('abc', size=3, as_published=True)
    assert reads(buffer, 3) == ['a', 'c', 'b']
    buffer.write('d')  # in place of a, the next oldest being b
    assert reads(buffer, 4) == ['d', 'b', 'd', 'c']


class Listed:
    """The same, as a list from old to new."""

    def __init__(self, size, max_reuse):
        self.size, self.max_reuse, self.items = size, max_reuse, []

    def write(self, item):
        self.items = [*self.items, [item, 0]][-self.size :]

    def read(self):
        fresh = [each for each in self.items if each[1] < self.max_reuse]
        if not fresh:
            return None
        least = min(uses for _, uses in fresh)
        item = [each for each in fresh if each[1] == least][-1]
        item[1] += 1
        return item[0]


@pytest.mark.parametrize('seed', range(5))
def test_any_order_of_writes_and_reads(seed):
    rng = random.Random(seed)
    size, max_reuse = rng.randint(1, 6), rng.randint(1, 4)
    buffer = RingBuffer(size, max_reuse)
    expected = Listed(size, max_reuse)
    for step in range(500):
        if rng.random() < 0.4:
            buffer.write(step)
            expected.write(step)
        else:
            assert buffer.read() == expected.read()


def test_a_state_goes_on():
    buffer = filled('abcd', size=3, max_reuse=2)
    reads(buffer, 2)
    other = RingBuffer(size=3, max_reuse=2)
    other.load_state_dict(buffer.state_dict())
    buffer.write('e')
    other.write('e')
    assert reads(buffer, 8) == reads(other, 8)


def test_state_of_another_size_is_refused():
    state = RingBuffer(size=2).state_dict()
    with pytest.raises(ValueError, match='buffer.size=3.*of 2'):
        RingBuffer(size=3).load_state_dict(state)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'size': 0}, 'buffer.size=0'),
        ({'size': 1.5}, 'buffer.size=1.5'),
        ({'max_reuse': 0}, 'buffer.max_reuse=0'),
        ({'max_reuse': 1, 'as_published': True}, 'write 2'),
    ],
)
def test_what_makes_no_buffer_is_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        RingBuffer(**kwargs)
