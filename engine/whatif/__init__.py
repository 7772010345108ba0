"""What-if questions: how accurate would a changed architecture be with the weights of a finished search? Answered in seconds."""
