from __future__ import annotations

import pytest
import torch
from torch import nn

from fallow.errors import ConfigError
from fallow.models import backbone_from_state, from_module, load_backbone
from tests.networks import Tiny, tiny_backbone, tiny_module


def test_a_hook_by_name_gives_the_pooled_output_of_that_layer() -> None:
    module, x = tiny_module().eval(), torch.randn(3, 3, 32, 32)
    backbone = tiny_backbone()
    assert backbone.dim == 24
    expected = module.body(module.stem(x)).mean((2, 3))
    torch.testing.assert_close(backbone.module(x), expected)
    torch.testing.assert_close(backbone.module(x), expected)


def test_a_hook_may_be_a_function_or_nothing() -> None:
    module, x = tiny_module(), torch.randn(2, 3, 32, 32)
    by_function = from_module(module, feature_hook=lambda m, v: m.stem(v))
    assert by_function.dim == 12
    assert from_module(module, size=32).dim == 5
    torch.testing.assert_close(from_module(module, size=32).module(x), module.eval()(x))


def test_the_users_module_is_neither_changed_nor_followed() -> None:
    module = Tiny().train()
    backbone = from_module(module, size=32, feature_hook="body")
    assert module.training
    assert all(p.requires_grad for p in module.parameters())
    assert not any(part._forward_hooks for part in module.modules())
    before = backbone.module(torch.ones(1, 3, 32, 32))
    with torch.no_grad():
        module.stem[0].weight.zero_()
    torch.testing.assert_close(backbone.module(torch.ones(1, 3, 32, 32)), before)


def test_the_id_follows_tensors_hook_and_structure() -> None:
    torch.manual_seed(0)
    module = Tiny()
    ids = {from_module(module, size=32, feature_hook=hook).weights_id for hook in ("stem", "body", None)}
    assert from_module(module, size=32, feature_hook="stem").weights_id in ids
    with torch.no_grad():
        module.stem[0].bias[0] += 1
    ids.add(from_module(module, size=32, feature_hook="stem").weights_id)
    module.stem[2] = nn.Tanh()
    ids.add(from_module(module, size=32, feature_hook="stem").weights_id)
    assert len(ids) == 5


def test_features_that_are_no_vectors_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"no submodule 'neck'.*stem"):
        from_module(tiny_module(), feature_hook="neck")
    with pytest.raises(ConfigError, match=r"are \(2, 3, 8\)"):
        from_module(nn.Flatten(2), size=8, feature_hook=lambda m, x: m(x)[..., :8])


def test_a_transformer_takes_other_sizes_and_says_which_it_cannot() -> None:
    import timm

    torch.manual_seed(0)
    state = timm.create_model("test_vit", pretrained=False, num_classes=0).state_dict()
    backbone = backbone_from_state("test_vit", state, "here")
    assert backbone.at_size(backbone.default_size) is backbone.module
    assert backbone.at_size(96)(torch.zeros(1, 3, 96, 96)).shape == (1, backbone.dim)
    with pytest.raises(ConfigError, match="cannot take 100 pixels"):
        backbone.at_size(100)


def test_pixels_stop_at_sixteen() -> None:
    backbone = load_backbone("pixels")
    assert [backbone.fit_size(size) for size in (8, 16, 160)] == [8, 16, 16]
    assert [backbone.dim_at(size) for size in (8, 160)] == [192, 768]
