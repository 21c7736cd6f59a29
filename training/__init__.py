"""Makes the default model's eyes: pictures with questions, the tower, its training, its model card."""
