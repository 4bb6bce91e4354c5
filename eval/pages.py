"""A page of sections as Markdown and as one self-contained HTML file: no network, works without script."""

from eval.sections import Page, Section


def markdown(page: Page) -> str:
    """The page as Markdown: all of its words and tables."""
    parts = [f"# {page.title}", "", *(f"- {line}" for line in page.headlines), ""]
    for section in page.sections:
        parts += [f"## {section.title}", "", *_words(section)]
        parts += [
            table.markdown(titled=table.title != section.title, said=section.words)
            for table in section.tables
        ]
    return "\n".join(parts) + "\n"


def _words(section: Section) -> list[str]:
    lines = [line for words in section.words for line in (words, "")]
    if section.texts:
        lines += [*(f"- {who}: {text!r}" for who, text in section.texts), ""]
    return lines


def html(page: Page) -> str:
    """The page as HTML with its style, script and pictures inside."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("eval"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(page=page)
