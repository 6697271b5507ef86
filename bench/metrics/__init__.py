"""What a decoded picture is worth, what one curve saves against another, and what a network has to compute.

``judge``: bytes, bits/dim, squared error, MS-SSIM (``msssim``); ``bd``: BD-rates; ``flops``: operations, and the
device's peak.
"""
