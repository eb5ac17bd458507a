"""A small game for the contract tests of stream, loaded as a person's file would be."""

from bakehouse_schemas.application.application import Application, Discrete, seconds
from bakehouse_schemas.application.observation import Numeric
from bakehouse_schemas.application.reward import Reward

application = Application(
    name="small-game",
    observation=[Numeric("skill", low=0, high=1)],
    actions=Discrete("easy", "hard"),
    reward=Reward({"won": 1.0}, window=seconds(5)),
    baseline=lambda context: "easy",
)
