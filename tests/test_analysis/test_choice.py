"""Which images are looked at."""

import numpy as np
import pytest

from mmlocal.analysis.choice import choose, taking_turns


class Images:
    def __init__(self, labels):
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def get_data_info(self, index):
        label = self.labels[index]
        return {} if label is None else {'gt_label': label}


LABELS = np.repeat(np.arange(4), 25)


def test_all_images_come_in_their_order():
    assert choose(Images(LABELS), None, even=False) == list(range(100))


def test_a_part_has_all_classes_alike_in_order_of_the_data_set():
    chosen = choose(Images(LABELS), 20, even=False)
    assert chosen == sorted(chosen)
    assert np.bincount(LABELS[chosen]).tolist() == [5, 5, 5, 5]


def test_neighbours_have_all_classes_alike():
    chosen = choose(Images(LABELS), 96, even=True)
    assert len(set(chosen)) == 96
    for start in range(0, 96, 12):
        labels = LABELS[chosen[start : start + 12]]
        assert np.bincount(labels).tolist() == [3, 3, 3, 3]


def test_a_class_that_is_used_up_is_passed_over():
    order = taking_turns([0, 0, 0, 1])
    assert sorted(order) == [0, 1, 2, 3]
    assert 3 in order[:2]


def test_images_without_a_class_are_drawn():
    chosen = choose(Images([None] * 50), 10, even=False)
    assert len(set(chosen)) == 10
    assert chosen != list(range(10))


def test_the_choice_is_always_the_same_and_moves_no_random_state():
    state = np.random.get_state()[1].copy()
    assert choose(Images(LABELS), 8, True) == choose(Images(LABELS), 8, True)
    assert (np.random.get_state()[1] == state).all()


def test_more_images_than_there_are_is_an_error():
    with pytest.raises(ValueError, match='the data set has 100 images'):
        choose(Images(LABELS), 101, even=False)
