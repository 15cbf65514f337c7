"""What operators write: catalog, policy and tenant files, as frozen values with every rule they must keep.

In: YAML files and bodies of the API. Out: models, and findings. A finding says where something is wrong, what is wrong, what is allowed
and what was probably meant.

`catalog` holds sources and entities, `registration` what a tenant receives, `policy` what holds for all, `selection` what one extraction
reads, and `values/` what they all consist of. `loading` reads the folder. Everything but `loading` is pure.
"""
