# Admits a machine on what `otr appraise … --flat FILE` wrote about it.
#
# The verdict of the appraisal's own policy comes first. What follows is this network's: every check in `needed` was
# made and holds, AMD or Intel say that the platform is up to date, and there is a whole number of eight-GPU machines.
package otr

import rego.v1

needed := {"gpu.signature", "gpu.chain.root", "gpu.nonce", "cpu.quote", "cpu.debug", "binding.gpu_nonce"}

default admit := false

admit if {
	input.format == "otr-flat/1"
	input.accepted
	count(missing) == 0
	input.tcb_statuses == ["UpToDate"]
	input.gpus > 0
	input.gpus % 8 == 0
}

missing contains check if {
	some check in needed
	input.checks[check] != "asserted"
}
