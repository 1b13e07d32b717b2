"""A pole, balanced on a cart by a policy that learns from the returns of its episodes.

Task: Gymnasium's ``CartPole-v1``, after Barto, Sutton and Anderson, "Neuronlike Adaptive
Elements That Can Solve Difficult Learning Control Problems" (1983): push left or right; a step
gives 1, and an episode ends when the pole has fallen, or after 500 steps.

Method: REINFORCE (Williams, 1992) in NumPy. A step of training plays four episodes. The loss
is the sum of -log p(action) times the advantage, an episode; the advantage is the discounted
return that followed, less the mean of all in the batch (the baseline), in units of their
deviation. The return that is reported is the mean of the last 40 episodes, as they were played.
"""

from collections import deque
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from numpy.typing import NDArray

from adamite.lab.problem import Run
from adamite.lab.problem import problem as declare

Array = NDArray[Any]
Params = dict[str, Array]

HIDDEN, EPISODES, DISCOUNT, LAST = 16, 4, 0.99, 40


class Played(NamedTuple):
    """Observations, whether each push was to the right, and the advantages."""

    seen: Array
    right: Array
    advantage: Array


def odds(params: Params, seen: Array) -> tuple[Array, Array]:
    """The hidden layer, and the logit of a push to the right."""
    hidden = np.tanh(seen @ params["w1"] + params["b1"])
    return hidden, hidden @ params["w2"] + params["b2"]


def loss_and_gradient(params: Params, played: Played) -> tuple[float, Params]:
    """The sum of -log p(action) times the advantage, per episode, and its gradient."""
    hidden, odd = odds(params, played.seen)
    sign = np.where(played.right, 1.0, -1.0)
    loss = np.sum(played.advantage * np.logaddexp(0, -sign * odd)) / EPISODES
    d_odd = played.advantage * (1 / (1 + np.exp(-odd)) - played.right) / EPISODES
    d_hidden = d_odd[:, None] * params["w2"] * (1 - hidden**2)
    gradient = {
        "w1": played.seen.T @ d_hidden,
        "b1": d_hidden.sum(axis=0),
        "w2": hidden.T @ d_odd,
        "b2": np.asarray([d_odd.sum()]),
    }
    return float(loss), gradient


def returns(rewards: Array) -> Array:
    """The discounted return from each step on."""
    total, discounted = 0.0, np.empty(len(rewards))
    for k in reversed(range(len(rewards))):
        discounted[k] = total = rewards[k] + DISCOUNT * total
    return discounted


@declare(name="cartpole", source="Barto et al. 1983", steps=100, metric="return", higher=True, target=400)
def problem(seed: int) -> Run:
    """A pole on a cart, balanced by a policy gradient."""
    rng = np.random.default_rng(seed)
    world = gymnasium.make("CartPole-v1")
    world.reset(seed=seed)
    params = {
        "w1": rng.normal(0, 0.5, (4, HIDDEN)),
        "b1": np.zeros(HIDDEN),
        "w2": rng.normal(0, 0.1, HIDDEN),
        "b2": np.zeros(1),
    }
    last: deque[int] = deque(maxlen=LAST)  # the episodes' lengths, which are their returns

    def episode() -> tuple[list[Array], list[bool]]:
        seen, pushes = [world.reset()[0]], []
        while True:
            odd = odds(params, seen[-1])[1].item()
            pushes.append(bool(rng.logistic() < odd))
            now, _, fallen, late, _ = world.step(int(pushes[-1]))
            if fallen or late:
                return seen, pushes
            seen.append(now)

    def loss() -> tuple[float, Params]:
        played = [episode() for _ in range(EPISODES)]
        last.extend(len(pushes) for _, pushes in played)
        followed = np.concatenate([returns(np.ones(len(pushes))) for _, pushes in played])
        advantage = (followed - followed.mean()) / (followed.std() + 1e-8)
        seen = np.array([s for seen, _ in played for s in seen], dtype=float)
        right = np.array([push for _, pushes in played for push in pushes])
        return loss_and_gradient(params, Played(seen, right, advantage))

    return Run(params, loss, lambda: {"return": float(np.mean(last))})
