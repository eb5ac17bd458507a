"""`python -m bakehouse_learner.agents.check_network REF`: can a bundle carry the network that the
application wrote.

Only Keras can tell what a builder makes, and the page is loaded in processes without TensorFlow;
so `bakehouse check` asks here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from bakehouse_learner.agents.load import load_agents
from bakehouse_schemas.application.agents import require_packages
from bakehouse_schemas.application.application import Application
from bakehouse_schemas.errors import ApplicationError, BakehouseError
from bakehouse_schemas.loading import load_application


def main(arguments: Sequence[str]) -> int:
    """Answer on standard output; 0, or 2 with the reason."""
    try:
        (ref,) = arguments
        answer = check_network(load_application(ref).application)
    except BakehouseError as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}))  # noqa: T201
        return 2
    print(json.dumps(answer))  # noqa: T201
    return 0


def check_network(application: Application) -> dict[str, Any]:
    """`operations`: names of those of the hidden part, in order; `numbers`: weights that it has.

    Raises:
        UnsupportedOperation: layers that a bundle cannot carry, by name.
        ApplicationError: the builder failed, or gave something else than layers.
        MissingDependency: the agent needs TF-Agents, which is not installed.
    """
    require_packages(application.agent.name)
    load_agents()
    from bakehouse_learner.agents.common.keras_layers import built_layers, operations_of
    from bakehouse_learner.training.tensorflow_setup import tf

    inputs = application.encoder.size
    builder = application.agent.parameters.get("network")
    if builder is None:
        raise ApplicationError(
            f"{application.agent!r} has no network of its own; a bundle carries hidden=[…]"
        )
    layers = built_layers(builder, inputs, seed=application.training.seed)
    values = tf.zeros([1, inputs])
    for layer in layers:
        values = layer(values)
    operations, arrays = operations_of(layers)
    return {
        "operations": [operation["op"] for operation in operations],
        "numbers": sum(array.size for array in arrays.values()),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
