"""What tests of the command line look at: files written, lines printed."""

from PIL import Image


def files(folder):
    """Names of everything below a folder, sorted."""
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*")) if folder.exists() else []


def outputs(name, map_given=False):
    """What a photo of this name becomes."""
    maps = [f"{name}_defocus.tif"] if map_given else [f"{name}_defocus.tif", f"{name}_confidence.tif"]
    return [name, *maps, f"{name}_overlay.png", f"{name}_report.html"]


def fails(result, code, *words):
    """One line, of the right form, and nothing printed as written."""
    got, output, errors = result
    assert got == code
    assert output == []
    assert len(errors) == 1, errors
    assert errors[0].startswith("deblur.py: ")
    for word in words:
        assert str(word) in errors[0], errors[0]


def pixels(file):
    """What a picture shows, without its metadata, which names the options."""
    with Image.open(file) as image:
        return image.tobytes()
