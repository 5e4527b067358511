"""The forward pass uses bfloat16; weights and gradients stay float32."""

import torch
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import nn

init_default_scope('mmdet')


class Linear(BaseModel):
    """A model that records the data type of its layer's output."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, inputs, mode='tensor'):
        out = self.layer(inputs)
        self.dtype = out.dtype
        return dict(loss=(out - 1).square().mean())


def test_the_forward_pass_is_bfloat16_and_the_weights_stay_float32():
    torch.manual_seed(0)
    model = Linear()
    wrapper = dict(type='RTMBFloat16OptimWrapper', optimizer=dict(type='AdamW', lr=0.1))
    wrapper = build_optim_wrapper(
        model, dict(wrapper, constructor='RTMOptimWrapperConstructor', clip_grad=dict(max_norm=1))
    )
    data = dict(inputs=torch.rand(8, 4))
    losses = [model.train_step(data, wrapper)['loss'].item() for _ in range(20)]
    assert model.dtype == torch.bfloat16
    averages = [state['exp_avg'] for state in wrapper.optimizer.state.values()]
    assert {tensor.dtype for tensor in (*model.parameters(), *averages)} == {torch.float32}
    assert losses[-1] < losses[0] / 2
    model(**data)
    assert model.dtype == torch.float32, 'not outside of the step'
