# Written by scripts/generate.py from the catalogue; don't edit it, run `make generate`.

from adamite.language.rule import Rule

__all__ = ['adabelief', 'adabelief_nesterov', 'adadelta', 'adagrad', 'adagrad_eps_inside', 'adam', 'adam_eps_hat', 'adam_eps_root', 'adamax', 'adamax_eps_in_max', 'adopt', 'adopt_nesterov', 'amsgrad', 'amsgrad_corrected', 'amsgrad_eps_hat', 'amsgrad_max_hat', 'lion', 'nadam', 'nadam_unscheduled', 'radam', 'radam_eps_hat', 'radam_eps_root', 'rmsprop', 'rmsprop_eps_outside', 'rmsprop_trace', 'sgd', 'sgd_lr_inside', 'yogi']
RULES: dict[str, Rule]
adabelief: Rule
adabelief_nesterov: Rule
adadelta: Rule
adagrad: Rule
adagrad_eps_inside: Rule
adam: Rule
adam_eps_hat: Rule
adam_eps_root: Rule
adamax: Rule
adamax_eps_in_max: Rule
adopt: Rule
adopt_nesterov: Rule
amsgrad: Rule
amsgrad_corrected: Rule
amsgrad_max_hat: Rule
amsgrad_eps_hat: Rule
lion: Rule
nadam: Rule
nadam_unscheduled: Rule
radam: Rule
radam_eps_hat: Rule
radam_eps_root: Rule
rmsprop: Rule
rmsprop_eps_outside: Rule
rmsprop_trace: Rule
sgd: Rule
sgd_lr_inside: Rule
yogi: Rule
