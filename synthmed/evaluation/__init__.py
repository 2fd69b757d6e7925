"""What synthetic images are worth: distance to real ones, masks, copies of training images."""
