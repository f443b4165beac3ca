"""The 3D U-Net of ModelScope, Zeroscope, VideoCrafter and DynamiCrafter."""
