"""What-if questions: the accuracy of changed architectures with the weights of a finished search, answered in seconds."""
