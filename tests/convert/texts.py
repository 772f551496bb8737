"""What tokenisers are trained and tried on."""

TEXTS = [
    "The quick brown fox jumps over the lazy dog, and nobody's there to see what it'll do.",
    "def convert(folder, target):\n    for name in sorted(folder):\n\t\treturn target[name] + 12345",
    "Où est la bibliothèque ? Straße, naïve, Ångström, 日本語の文章です。 Привет, мир!",
    "   leading spaces,  double  spaces and trailing ones   ",
    "Numbers: 1 22 333 4444 55555, 3.14159; dates 2026-11-25; ±×÷ €100",
    "HTTPServer camelCase UPPER lower I'M WE'VE they're\r\nnew line\n\n\nthree new lines",
    "emoji 🙂🚀 and \u200bzero width, tab\there",
]
