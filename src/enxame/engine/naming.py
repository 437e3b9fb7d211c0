"""Names and ids of containers: made, checked, looked up."""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Mapping

from enxame.errors import InvalidArgument, NotFound

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")

_ADJECTIVE_LIST = """
agile amber bold brave bright brisk busy calm clever cosy crisp curious deft eager early fair fond gentle glad
golden happy honest humming jolly keen kind lively lucid merry mild modest neat nimble patient placid plucky
proud quick quiet ready serene sharp shy silent sleek smooth sober sound spry steady still sunny swift tender
tidy tireless trusty vivid warm wise witty zealous
"""
_SURNAME_LIST = """
aguiar almeida amaral andrade arruda assis azevedo barreto barros bastos batista borba borges braga brito bueno
cabral camargo campos cardoso carneiro carvalho castro chagas cintra coelho correia costa cruz cunha dantas dias
duarte dumont esteves farias ferraz figueira fonseca fontes freire freitas furtado galvao gomes guedes
lacerda lattes leal lemos lima lobo lopes macedo maciel marques matos medeiros meireles melo mendes miranda moraes
moreira moura nobre nogueira novaes nunes oliveira paiva peixoto pereira pinto prado queiroz ramos rebelo reis
ribeiro rocha sales sampaio santana seabra serra silveira soares tavares teixeira torres vargas viana vieira
"""
_ADJECTIVES, _SURNAMES = _ADJECTIVE_LIST.split(), _SURNAME_LIST.split()


def new_id() -> str:
    """64 random hex digits. Never digits only in the first twelve: the short form would do as a host name number."""
    while True:
        text = secrets.token_hex(32)
        if not text[:12].isdigit():
            return text


def random_name(taken: Collection[str]) -> str:
    """An adjective and a Brazilian surname that is not ``taken``."""
    for attempt in range(100):
        name = f"{secrets.choice(_ADJECTIVES)}_{secrets.choice(_SURNAMES)}"
        if attempt > 5:
            name += str(secrets.randbelow(10 ** (attempt // 10 + 1)))
        if name not in taken:
            return name
    return f"{secrets.choice(_ADJECTIVES)}_{new_id()[:12]}"


def check_name(name: str) -> str:
    """The name without a leading slash. Raises InvalidArgument as Docker words it."""
    bare = name.removeprefix("/")
    if not _NAME.fullmatch(bare):
        raise InvalidArgument(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    return bare


def find(ref: str, ids: Collection[str], names: Mapping[str, str]) -> str:
    """The full id that ``ref`` means: a full id, a name, or a prefix of exactly one id.

    Raises:
        NotFound: ``No such container: X``.
        InvalidArgument: several ids begin so.
    """
    if ref in ids:
        return ref
    if named := names.get(ref.removeprefix("/")):
        return named
    matches = [identity for identity in ids if identity.startswith(ref)] if ref else []
    if not matches:
        raise NotFound(f"No such container: {ref}")
    if len(matches) > 1:
        raise InvalidArgument(f"Multiple IDs found with provided prefix: {ref}")
    return matches[0]
