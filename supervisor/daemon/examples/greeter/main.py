"""Methods that other programs call: `greet` takes a name and may be loud."""

from supervisor.sdk import Context, InvalidParams, Plugin, run

plugin = Plugin()
WORDS = {"en": "Hello", "de": "Guten Tag", "no": "Hei"}


@plugin.method("greet")
def greet(ctx: Context, name: str, loud: bool = False) -> dict:
    if not name.strip():
        raise InvalidParams("name must not be empty", param="name")
    text = f"{WORDS[ctx.config.get('language', 'en')]}, {name}!"
    ctx.log.info("greeted", name=name, loud=loud)
    return {"greeting": text.upper() if loud else text}


@plugin.method("languages")
def languages(ctx: Context) -> list[str]:
    return sorted(WORDS)


if __name__ == "__main__":
    run(plugin)
