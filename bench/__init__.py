"""Measurements: each module is a command that writes JSON first and pictures from it. Imports codec and ddpm.

``python -m bench.NAME --help`` says what it takes.

    rate_distortion  rate and distortion of progressive coding on small pictures, with real files (Ho et al., figure 5)
    curves           rate and distortion on photographs, beside other codecs and published curves
    lossless         lossless files beside their bound and other codecs
    archive          archives by bits-back, beside the same
    bounds           the variational bound of a test set, by the number of steps
    agreement        the codec's steps over an ideal channel beside the bound's terms for the same steps
    chain            the whole chain against an ideal channel: what the code costs over theory
    channel          the simulation of a channel alone, the trellis beside its rivals
    ideal            bits of ideal channels at equal quality, by models whose noise differs
    worth            what a bit is worth in each band of frequencies
    exactness        how far an exact network is from the one in floats
    speed            throughput, shares of time, share of the device's peak
    scale            seconds and memory by the size of the picture
    portability      files written under one arithmetic and read under others
    perceptual       FID and LPIPS, where their weights are at hand

    demo             the README's pictures
    method           the figure of docs/method.md
    boundaries       what is seen where the network changes its resolution

    quick            a little of everything
    results          results shown again, and merged
    readme           the tables of README.md and docs/results.md, from bench/results/
    report           one page of results, with pictures under a slider
    machines         a command under settings that stand in for other machines

What they share lies in folders: metrics, baselines, channels, harness, reporting. published/ has points of others with
their sources, results/ the JSON of ours, pictures/ the photograph.
"""

from codec.process import share_cores

share_cores()
