"""Speech to transcribe, made by flite (a Debian package) in three voices: files of one to seven sentences."""
import pathlib
import subprocess

VOICES = ["slt", "rms", "awb"]
SENTENCES = """The ferry leaves the harbour at a quarter past nine every morning.
Please put the blue folder back on the second shelf.
Nobody expected the bridge to be finished before the winter.
She bought three loaves of bread, a jar of honey and some cheese.
The old clock in the hall has not worked since last summer.
We walked along the river until the rain began.
Could you tell me where the nearest railway station is?
My grandmother planted these apple trees fifty years ago.
The museum is closed on Mondays, but the garden is open all week.
He opened the window because the room was far too warm.
A small dog followed the children all the way to school.
The engineer measured the length of the cable twice.
There will be strong winds along the coast tomorrow afternoon.
They painted the kitchen yellow and the front door green.
The train was late, so we missed the beginning of the concert.
Water the plants in the evening, when the sun is low.
The doctor asked him to come back in two weeks.
Most of the books in this library were printed before nineteen hundred.
I would like a cup of coffee and a glass of water.
The road over the mountain is blocked by snow.
Our neighbours keep bees behind their house.
The committee will publish its report in the spring.
She learned to play the violin when she was six years old.
The lights went out, and for a moment everyone was silent.""".split("\n")


def text_of(number):
    """Neighbours differ in length, and in where they begin."""
    count = 1 + number * 3 % 7
    return " ".join(SENTENCES[(number * 5 + i) % len(SENTENCES)] for i in range(count))


def speak(folder, count):
    """Paths of `count` WAV files in the folder."""
    paths = [pathlib.Path(folder) / f"{number}.wav" for number in range(count)]
    for number, path in enumerate(paths):
        subprocess.run(["flite", "-voice", VOICES[number % len(VOICES)], "-t", text_of(number), "-o", str(path)], check=True)
    return paths
