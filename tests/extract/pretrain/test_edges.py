"""Edges of masks, against exact distances."""

import torch
from scipy.ndimage import distance_transform_edt
from vivim.extract.pretrain.edges import edge_of, near, official_edge_of


def random_masks():
    return torch.rand(3, 20, 23, generator=torch.Generator().manual_seed(0)) > 0.8


def test_near_equals_the_exact_distance_transform():
    masks = random_masks()
    for radius in (1, 2, 3, 5):
        expected = torch.stack([torch.from_numpy(distance_transform_edt(~m.numpy()) <= radius) for m in masks])
        assert torch.equal(near(masks, radius), expected)


def test_the_edge_is_two_pixels_on_either_side_and_not_at_the_border():
    mask = torch.zeros(1, 12, 12)
    mask[:, :, 6:] = 1
    expected = torch.zeros(12, dtype=torch.bool)
    expected[4:8] = True
    assert torch.equal(edge_of(mask)[0], expected.expand(12, 12))


def test_empty_and_full_masks_have_no_edge():
    assert not bool(edge_of(torch.zeros(1, 8, 8)).any())
    assert not bool(edge_of(torch.ones(1, 8, 8)).any())


def test_the_official_edge_has_a_frame_around_the_picture():
    mask = torch.zeros(1, 12, 12)
    mask[:, 4:8, 4:8] = 1
    frame = torch.ones(12, 12, dtype=torch.bool)
    frame[2:-2, 2:-2] = False
    assert torch.equal(official_edge_of(mask)[0], edge_of(mask)[0] | frame)
