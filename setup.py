import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def requirements(name: str) -> list[str]:
    """The lines of requirements/<name>.txt that are not comments."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def version() -> str:
    """Read, not imported: the build environment has no mmengine."""
    text = (ROOT / 'mmlocal' / 'version.py').read_text()
    return re.search(r"__version__ = '(.+)'", text)[1]


setup(
    name='mmlocal',
    version=version(),
    description='Locally supervised training for OpenMMLab',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    author='MMLocal contributors',
    packages=find_packages(include=['mmlocal', 'mmlocal.*']),
    # .mim holds links to configs/, tools/ and model-index.yml: files in a
    # wheel, links in an editable install.
    package_data={
        'mmlocal': ['.mim/*.yml', '.mim/*/**/*'],
        'mmlocal.analysis.page': ['page.html', 'page.css', 'page.js'],
    },
    python_requires='>=3.10',
    install_requires=requirements('runtime'),
    extras_require={
        'audio': requirements('audio'),
        'docs': requirements('docs'),
        'onnx': requirements('onnx'),
        'tests': [
            *requirements('tests'),
            *requirements('audio'),
            *requirements('onnx'),
        ],
    },
    classifiers=[
        'Development Status :: 4 - Beta',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    zip_safe=False,
)
