"""Sound as Whisper reads it: windows of 30 s at 16 kHz as the logarithm of their energy in mel bands, one frame of 10 ms after
another (Radford et al. 2022, arXiv:2212.04356, section 2.2). Needs the package numpy."""
import wave

import numpy

RATE, WINDOW_SECONDS = 16000, 30
HOP, SPAN = 160, 400  # samples from frame to frame, and in a frame
FRAMES = WINDOW_SECONDS * RATE // HOP
LEAST_ENERGY = 1e-10


def read_wav(path):
    """Samples in -1..1 at 16 kHz of a WAV file with 16 bits a sample, the mean of its channels."""
    with wave.open(str(path)) as file:
        if file.getsampwidth() != 2:
            raise ValueError(f"{path}: {8 * file.getsampwidth()} bits a sample, not 16")
        channels, rate = file.getnchannels(), file.getframerate()
        samples = numpy.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, channels).mean(axis=1) / 32768
    return resample(samples, rate).astype(numpy.float32)


def resample(samples, rate):
    """By leaving out, or adding, the highest frequencies of all samples together."""
    if rate == RATE or len(samples) == 0:
        return samples
    count = len(samples) * RATE // rate
    spectrum = numpy.fft.rfft(samples)[:count // 2 + 1]
    return numpy.fft.irfft(spectrum, count) * (count / len(samples))


def windows(samples):
    """Those of 30 s, the last as long as it is."""
    size = WINDOW_SECONDS * RATE
    return [samples[start:start + size] for start in range(0, max(len(samples), 1), size)]


def mel_of_hertz(hertz):
    """Slaney's scale: linear to 1000 Hz, where it is 15, and logarithmic above."""
    hertz = numpy.asarray(hertz, dtype=float)
    return numpy.where(hertz < 1000, hertz * 3 / 200, 15 + 27 * numpy.log(numpy.maximum(hertz, 1) / 1000) / numpy.log(6.4))


def hertz_of_mel(mel):
    return numpy.where(mel < 15, mel * 200 / 3, 1000 * numpy.exp((mel - 15) * numpy.log(6.4) / 27))


def mel_filters(count):
    """[SPAN / 2 + 1][count]: triangles from 0 to 8000 Hz, each with its neighbours' peaks as its ends, of equal area."""
    edges = hertz_of_mel(numpy.linspace(0, mel_of_hertz(RATE / 2), count + 2))
    lower, peak, upper = edges[:-2], edges[1:-1], edges[2:]
    bins = numpy.fft.rfftfreq(SPAN, 1 / RATE)[:, None]
    rise, fall = (bins - lower) / (peak - lower), (upper - bins) / (upper - peak)
    return (numpy.maximum(0, numpy.minimum(rise, fall)) * 2 / (upper - lower)).astype(numpy.float32)


def log_mel(window, filters):
    """[FRAMES][mel bands] float32 of one window, silence behind its end."""
    size = WINDOW_SECONDS * RATE
    heard = min(FRAMES, (len(window) + SPAN) // HOP + 1)  # frames that see a sample; the others are silent
    padded = numpy.pad(numpy.pad(window, (0, size - len(window))), SPAN // 2, mode="reflect")
    frames = numpy.lib.stride_tricks.sliding_window_view(padded, SPAN)[::HOP][:heard]
    hann = numpy.hanning(SPAN + 1)[:-1].astype(numpy.float32)
    energy = numpy.abs(numpy.fft.rfft(frames * hann)).astype(numpy.float32) ** 2
    logarithm = numpy.full((FRAMES, filters.shape[1]), numpy.log10(LEAST_ENERGY), dtype=numpy.float32)
    logarithm[:heard] = numpy.log10(numpy.maximum(energy @ filters, LEAST_ENERGY))
    return (numpy.maximum(logarithm, logarithm.max() - 8) + 4) / 4
