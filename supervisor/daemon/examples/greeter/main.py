"""Methods that other programs call: `greet` takes a name and may be loud. Another language needs no restart."""

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


@plugin.on_config_changed
def configured(ctx: Context, config: dict) -> None:
    ctx.log.info("the language changed", before=ctx.config.get("language", "en"), now=config.get("language", "en"))


if __name__ == "__main__":
    run(plugin)
