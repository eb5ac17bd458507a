"""What a data scientist declares: context, actions, agent, reward, exploration, rollout."""
