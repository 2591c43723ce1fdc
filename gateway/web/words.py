"""What screens call the things that journals, records and devices name by code.

Chinese for collectors, English for engineers. The page has words only for its own buttons.
"""

from collections.abc import Callable

from aiohttp import web

Say = Callable[..., str]
"""Key and holes → words; no holes given: they stay open; a key without words is said as it is."""

LANGUAGES = ("zh-CN", "en")

_TABLE = """
age.days | {n} 天 | {n} days
age.hours | {n} 小时 | {n} h
age.minutes | {n} 分钟 | {n} min
age.seconds | {n} 秒 | {n} s
agree | 同意 | Agree
amount | 金额 元 | Amount CNY
approvals | 授权请求 | Requests
approvals.none | 没有等待授权的请求 | Nothing is asked
balance | 余额 元 | Balance CNY
balance.before | 扣款前余额 元 | Balance before CNY
card | 卡内车牌 | Plate in card
card.credit | 记账卡 | credit card
card.number | 卡号 | Card
car | 小客车 | Car
close | 下班 | Sign off
chip.done | 已同步 | Synced
chip.offline | 离线 · {n} 笔待传 | Offline · {n} unsent
chip.oldest | 最早 {at} | oldest {at}
chip.parked | 退回 {n} 笔 | {n} refused
chip.sending | 正在上传 {n} 笔 | Sending {n}
disputed | 可能已经扣款。卡找到后放回，先查清再收费 | Perhaps debited: prove by the card first
disk.degraded | 要处理 | Needs care
disk.missing | 不能写 | Not writable
doubt | 卡在写的时候离开了。请放回同一张卡，系统查清后再放行，不会重复扣 | Put the same card back
entry.time | 入口时间 | Entry time
fare.agreed | ✓ 入口站“{name}”已核对 | ✓ Entry "{name}" confirmed
fare.ask | 请按算费 | Ask the fare
fare.hex | 请输入“{name}”的站Hex码 | Key the Hex of "{name}"
fare.hex.other | 请输入实际入口站的Hex码 | Key the Hex of the true entry
fare.master | ✓ 站长 {who} 已授权 | ✓ Allowed by {who}
fare.save | 卡不要拿开，按数据保存扣款 | Leave the card, then save
fare.no_entry | 先输入或按站名找到入口站，再算费 | Name the entry first
fare.short | 余额不够：只有 {balance} 元 | Balance too low: {balance} CNY
fare.short.do | 扣款会被卡拒绝，请转特情改其他方式 | The card will refuse: hand over
fare.unpriced | 选入口站重新算，或请站长按最小费额计费 | Another entry, or the minimum fare
fare.way | {from_} → {to}，{kind} | {from_} → {to}, {kind}
idle.card | 请把 ETC 卡放到读卡区 | Put the ETC card on the reader
idle.first | 本班还没有交易 | Nothing yet this shift
idle.last | 上一笔 {amount} 元 · #{seq} | last {amount} CNY · #{seq}
idle.reader | 系统正在自动重连；仍不行请通知维护人员 | Dialling; call maintenance if it stays
idle.suspended | {n} 辆车挂起，等待续办 | {n} put aside
level.master | 须站长同意 | master
level.stops | 不能放行 | stops
level.warns | 提醒 | note
media | 卡/标签 | Card/tag
media.agrees | ✓ 一致 | ✓ agree
media.differs | ✕ 不一致 | ✕ differ
media.none | — | —
media.only | ▲ 只有卡 | ▲ card only
reading.flat | 请把卡平放在读卡区中间，不要移动 | Hold the card flat and still
refused.master | 站长同意后可以继续，也可以转特情 | A master may let it pass
refused.stops | 请转特情，或取消后换卡再读 | Hand over, or cancel and read another card
saved.by_hand | ✓ {means}已收 | ✓ Collected: {means}
saved.disk | 已保存到本机 #{seq} · {chain} | On disk #{seq} · {chain}
saved.doubt | 卡上可能已经扣款，由中心核对 | The card may have been debited: the centre finds out
saved.doubtful | ▲ 存疑已登记 | ▲ Doubtful, kept
saved.means | 收费方式：{means} | By {means}
saved.nothing | 应收 {due} 元，没有收费 | Due {due} CNY, nothing taken
saved.offline | 离线，联网后自动上传 | Offline: sent by itself later
saved.refused | 中心退回了这一笔，请到同步页处理 | Refused by the centre: see Sync
saved.sending | 正在上传 | Sending
saved.unpaid | 已放行 · 未收费 | Released unpaid
saved.sent | 中心已确认 | Confirmed
saving.wait | 请不要移动卡，不要放行 | Do not move the card
screen.agreed | 请确认金额 | Confirm the amount
screen.checked | 核对实际车牌 | Check the plate
screen.classified | 核对金额与入口站 | Fare and entry
screen.debiting | 正在写卡 | Writing the card
screen.disputed | 存疑：卡已离开 | Disputed: card gone
screen.doubtful | ▲ 扣款结果还不知道 | ▲ Outcome unknown
screen.evidenced | 核对车型、车种 | Check the vehicle
screen.held | 特情处理 | Settle by hand
screen.idle | 等待来车 | Waiting
screen.preparing | 正在写卡 | Writing the card
screen.priced | 核对金额与入口站 | Fare and entry
screen.reading | 正在读卡 | Reading
screen.refused | ✕ 不能按正常收费 | ✕ Refused
screen.saved | ✓ 缴费成功 | ✓ Paid
screen.unpriced | 核对金额与入口站 | Fare and entry
survivor | 停机之前的车 | From before the restart
survivor.at | 停在“{state}” | It stood at "{state}"
survivor.card | 没有扣款。卡 {number} 请放回读卡区，从这一步继续 | Not debited. Card {number} back, go on
survivor.money | 已记在本机的都还在 | What was on disk is kept
yuan | 元 | CNY
close.sure | 数据已保存在本机，没有上传的会自动上传。确认下班？ | All is kept here, the rest is sent by itself. Sign off?
day.all | 全部 | All
day.shift | 本班 | This shift
day.today | 今天 | Today
delivery | 上传 | Delivery
clock.degraded | 不准 | Unset
clock.missing | 不准 | Unset
device.closed | 已关闭 | Closed
device.degraded | 不稳定 | Unstable
device.missing | 未连接 | Missing
device.ok | 正常 | OK
device.paused | 暂停 | Paused
device.simulated | 模拟 | Simulated
devices | 设备 | Devices
discount | 优惠 元 | Discount CNY
due | 应收 元 | Due CNY
entry | 入口 | Entry
explain | 这笔费怎么来的 | How the fare came about
explain.kind | 计费方式 | Way
history | 历史 | History
history.keys | 按键 | Keys
history.more | 更早的 | Earlier
history.newest | 最新的 | Newest
history.nothing | 没有这样的车，换个条件试试 | None of this kind
history.span | 时间 | Time
history.none | 还没有交易，读第一张卡后会显示在这里 | Nothing yet
journal | 经过 | Journal
km | {n} 公里 | {n} km
lamp.camera | 可用手持机拍照 | Photos by handheld
lamp.obu | 只按卡处理 | Card only
lamp.psam | 不能扣款，请换车道 | No debits
lamp.reader | 不能读卡，其他功能可用 | No cards
lamp.scale | 重量可人工填写 | Weight by hand
list_age | 名单 | List
listed | 名单卡 | Listed card
low_balance | 余额不足 | Low balance
menu | 功能 | Menu
mileage | 里程 | Distance
minimum_fare | 最小费额 | Minimum fare
mismatch | 卡签不符 | Mismatch
new_energy | 新能源 | New energy
no_entry | 无入口 | No entry
none | — | —
operator | 工号 | Operator
owner.booth | 这一笔正在岗亭处理，这里只能看 | The booth works on this one: look only
owner.hand | 这一笔正在手持机上处理，这里只能看 | A handheld works on this one: look only
page.right | 界面文件校验通过，{n} 个 | {n} page files verified
page.wrong | 界面文件校验不通过：{what} | Page files differ: {what}
pairing | 配对手持机 | Pair a handheld
pairing.address | 不能扫码时，手持机打开 | Without a scanner, open
pairing.code | 再输入配对码 | and key the code
pairing.compare | 手持机上的六位数字必须和这里一样 | Both must show the same six digits
pairing.hint | 取码后用手持机扫描 | Get a code, scan it with the handheld
pairing.left | {n} 秒内有效，只用一次 | {n} s left, one use
pairing.list | 已配对的手持机 | Paired handhelds
pairing.none | 还没有配对的手持机 | None yet
pairing.qr | 配对二维码 | Pairing code
pairing.revoke | 停用 | Revoke
pairing.same | 数字一致 | Same digits
pairing.seen | 最近 {at} | seen {at}
pairing.start | 取配对码 | Get a code
pairing.sure | 停用后 {name} 要重新配对才能用，正在用的会马上退出。确认停用？ | {name} is thrown out at once and must be paired anew. Revoke?
pairing.stop | 停止配对 | Stop
parked | 被退回 | Refused by the centre
parked.call | 记录仍在本机，不会丢；请把编号和原因告诉中心 | Kept here; tell the centre number and reason
parked.none | 没有被退回的记录 | None
passage | 这一笔 | This passage
photo | 照片 | Photo
plate | 车牌 | Plate
practice | 练习：放一辆车（模拟设备，不动真钱） | Practice: put a vehicle (twins, no real money)
practice.told | 车道上是 {plate}，入口 {entry_station}，Hex {entry_hex} | There: {plate}, from {entry_station}, Hex {entry_hex}
reason | 原因 | Reason
records | {n} 笔 | {n} records
refuse | 不同意 | Refuse
resume | 续办 | Resume
resume.later | 先办完眼前这一辆，再续办 | Settle the present vehicle first
seq | 流水号 | Number
settings | 设置 | Settings
shift | 班次 | Shift
shift.1 | 早班 | Early
shift.2 | 中班 | Late
shift.3 | 晚班 | Night
shift.auto | 读第一张卡时自动开班 | The first card begins a shift
shift.closed | 已下班 | Signed off
shift.count | 已收 | Vehicles
shift.first | 还有 {n} 辆车挂起，请先续办或取消 | {n} put aside: settle them first
shift.look | 只看 | Look only
shift.none | 还没有上班 | No shift
shift.opened | 上班时间 | Since
shift.unsent | 还有 {n} 笔（{sum} 元）等待上传，会自动上传，不影响下班 | {n} records ({sum} CNY) still to be sent, by themselves
shiftEnd | 下班交接 | Hand over
signOut | 退出登录 | Sign out
suspended | 挂起的车 | Put aside
suspended.at | 停在“{state}” · {at} 开始 | at "{state}" since {at}
suspended.none | 没有挂起的车 | None
sync | 同步 | Sync
sync.can | 可以做：照常收费、照相、站长授权 | Goes on: charging, photos, masters
sync.cannot | 不能做：名单立即更新。联网后自动上传，不用管 | Does not: lists at once. Sent by itself later
sync.down | 离线 | Offline
sync.eta | 预计传完 | Done in
sync.first | 最早一笔 | Oldest
sync.link | 上级连接 | Centre
sync.delivered | 已送达，等中心确认 | With the broker
sync.proof | 全程自检 | Proof
sync.proof.none | 启动后还没有做 | None since the start
sync.proof.stopped | 停在{where}：{why} | Stopped at the {where}: {why}
sync.proof.whole | {age}前走通 | All the way {age} ago
sync.proof.log | 流水日志 | log
sync.proof.tables | 数据表 | tables
sync.proof.line | 到中心的线路 | line
sync.proof.center | 中心 | centre
sync.unsent | 未传 | Unsent
sync.up | 已联网 | Online
table.axle_limits | 轴限 | Axle limits
table.minimum_fares | 最小费额 | Minimum fares
table.operators | 人员 | Operators
table.policy | 规则 | Policy
table.stations | 站码表 | Stations
table.status_list | 状态名单 | Status list
table.vehicle_classes | 车种 | Classes
table.vehicle_types | 车型 | Types
tac | TAC | TAC
tag | 标签车牌 | Plate in tag
truck | 货车 | Lorry
twins | 设备是模拟的，不动真钱 | Twins: no real money
versions | 版本 | Versions
versions.at | {version} · {since} 起生效 · {age}前更新 | {version} · since {since} · {age} old
versions.next | 待生效：{version}，{at} | Next: {version}, {at}
versions.rehearsed | 试算最近 {n} 笔：{changed} 笔金额不同，合计 {sum}；{lost} 笔算不出 | On the last {n}: {changed} differ, {sum} in all; {lost} unpriced
versions.listed | {n} 个号码 | {n} numbers
versions.damaged | ✕ 名单文件有损坏，正在重新取 | ✕ the list is damaged, fetching it anew
zero_fare | 免费车 | Free
source.card | 卡内 | Card
source.typed | 人工输入 | Typed
source.searched | 按站名选 | By name
busy.debit | 正在写卡… | Writing…
busy.photo | 正在存照片… | Keeping the photo…
busy.proof | 正在查清… | Proving…
busy.quote | 正在算费… | Asking the fare…
busy.read | 正在读卡… | Reading…
busy.work | 正在处理… | Working…
master | 站长授权 | Master
master.afar | 远程授权 | Ask afar
master.approved | 站长已同意 | Allowed
master.again | 这一笔还在：再请一次，或在本机输入 | Ask again, or key it here
master.expired | 站长没有回应 | No answer
master.go | 继续 | Go on
master.here | 在本机输入 | Key it here
master.number | 站长工号 | Master's number
master.once | 密码只用这一次，不保存 | Used once, kept nowhere
master.refused | 站长没有同意 | Refused
master.waiting | 已通知站长，等待回复… | Asked, waiting…
master.where | 站长在自己的手持机上按“授权请求” | He answers on his own handheld
ok | 确定 | OK
master.minimum_fare | 最小费额计费 | Minimum fare
master.override | 放过检查结果 | Pass the findings
master.settle_by_hand | 特情收费 | Charge by hand
correct | 更正 | Correct
correct.colour | 车牌颜色 | Colour
correct.done | 更正 {id} | Corrects {id}
correct.hint | 原来的流水不动，另记一条；点要改的，没点的不变 | A new record; what is not tapped stays
corrected | 已更正 | Corrected
correct.again | 改正后重传 | Correct, send again
correct.paid | 从卡上扣的款不能更正，多扣少扣按退费、补费办理 | What the card paid stays as it is
resend | 原样重传 | Send again
resend.by | 站长 {who} · {at} | {who} · {at}
resend.hint | 流水没有错、中心已改好时用；内容一个字不变，不会重复收费 | When the record was right; not a byte changes
resend.refused | 重传后又被退回：{reason} | Refused again: {reason}
resend.taken | ✓ 重传后中心已确认 | ✓ Confirmed
resend.waits | 正在重传，等中心答复 | On its way again
resend.words | 中心的话 | The centre says
resent | 重传过的 | Sent again
correct.since | 已更正 #{seq}，{fate} | Corrected by #{seq}, {fate}
correct.yuan | 实收金额 元 | Collected CNY
carry | 离线搬运 | Carry
carry.all | 全部 | All
carry.bare | 不带照片 | Without photos
carry.export | 写导出文件 | Export
carry.in | 导入中心的回执 | The centre's receipt
carry.known | 第 {n} 号回执已经导入过，没有改动 | Receipt {n} was known
carry.out | 导出流水，交给中心或审计 | Export for the centre or auditors
carry.photos | 带照片 | With photos
carry.receipt | 选回执文件 | Choose the receipt
carry.running | 正在核对并写导出文件，不影响收费… | Verifying and writing…
carry.save | 下载：{name}（{size} MB） | Download {name} ({size} MB)
carry.span | 时间 | Time
carry.taken | 第 {n} 号回执已导入，新落定 {count} 条 | Receipt {n} taken, {count} settled
carry.today | 今天 | Today
carry.week | 七天 | Seven days
carry.yesterday | 昨天 | Yesterday
export.broken | 磁盘读写出错，导出没有写成 | The disk failed: no export
export.broken.do | 流水都在本机，收费不受影响；请通知维护人员检查磁盘 | Records are safe; have the disk looked at
export.full | 磁盘满了，导出没有写成 | The disk is full: no export
export.full.do | 流水都在本机，收费不受影响；请维护人员清理磁盘后再写 | Records are safe; make room, then again
export.given_up | 磁盘空间不够，导出文件已经让出 | Given up for the disk's space
export.given_up.do | 流水都在本机，收费不受影响；请维护人员清理磁盘后再写 | Records are safe; make room, then again
export.late | 写了很久还没有写完，已经停止 | It took too long and was stopped
export.late.do | 流水都在本机，收费不受影响；请选短一点的时间，或不带照片 | Records are safe; a shorter span, or no photos
export.read_only | 磁盘变成只读，导出没有写成 | The disk is read-only: no export
export.read_only.do | 已保存的流水还在；请通知维护人员检查磁盘后重启 | What is saved is kept; have the disk looked at
export.refused | 导出没有写成 | No export
export.refused.do | 流水不受影响；请看下面的原因 | Records are untouched; see below
stick.differs | 写到 {name} 的内容读回来不一样 | {name} gives back other bytes
stick.differs.do | 那个文件已删除；这个 U 盘靠不住，请换一个 | Deleted; take another stick
stick.done | 已写到 {name}，读回核对一致（{sha}），可以拔出 | On {name}, read back alike ({sha}): take it out
stick.full | {name} 放不下这个文件 | {name} is full
stick.full.do | 没有写；请清理 U 盘或换一个，也可以不带照片 | Nothing written; make room or take another
stick.gone | {name} 被拔出，或读写出错，没有写完 | {name} was pulled out, or failed
stick.gone.do | 本机的文件还在；请插好或换一个，再写一次 | The file is still here; plug one in, again
stick.late | 写到 {name} 太慢，已经停止 | {name} is too slow: stopped
stick.late.do | 本机的文件还在；请换一个 U 盘 | The file is still here; take another stick
stick.no_file | 导出文件已经不在 | The export is gone
stick.no_file.do | 请重新写导出文件 | Make it again
stick.none | 没有插 U 盘；插好后这里会出现 | No stick: plug one in and it is listed here
stick.read_only | {name} 不能写（写保护） | {name} is write-protected
stick.read_only.do | 没有写；请拨开写保护开关或换一个 U 盘 | Nothing written; its switch, or another stick
stick.running | 正在写到 {name}：{n}%，不要拔 | Writing to {name}: {n} %, leave it in
stick.to | 写到 U 盘 {name} | To stick {name}
stick.too_big | {name} 的格式存不下这么大的文件 | A file so large does not fit the format of {name}
stick.too_big.do | 没有写；请选短一点的时间、不带照片，或换 exFAT 格式的 U 盘 | Nothing written; a shorter span, or an exFAT stick
keymap | 按键 | Keys
settings.locked | 改设置须站长同意 | Settings need a master
settings.open | 打开设置 | Open
shift.elsewhere | 工号 {who} 已在 {lane} 上班（{at} 起） | {who} is on shift at {lane} since {at}
shift.elsewhere.do | 那边下班后再来，或请站长把那一班下班 | Sign off there first, or ask a master
shift.go | 到 {lane} | To {lane}
timeline | 时光轴 | Timeline
waited.aside | 挂起 | aside
waited.machine | 设备、网关 | machines
waited.person | 人 | people
lane | 车道 | Lane
standing | 暂停、关闭车道 | Pause or close
standing.after | 办完这一辆后： | After this vehicle:
standing.close | 关闭车道 | Close the lane
standing.closed | 车道已关闭 | Lane closed
standing.keeps | 眼前的车先办完；挂起的车照样可以续办 | The vehicle in work is finished first
standing.open | 恢复收费 | Open the lane
standing.pause | 暂停收费 | Pause
standing.paused | 暂停收费 | Paused
standing.since | 工号 {who}，{at} 起 | {who}, since {at}
standing.sure | 关闭后不能读卡，要再按恢复收费。确认关闭？ | No card is read until it is opened again. Close?
language | 语言 | Language
language.en | English | English
language.zh-CN | 中文 | 中文
lock | 锁屏 | Lock
lock.0 | 不锁 | Never
lock.15 | 15 分钟 | 15 min
lock.5 | 5 分钟 | 5 min
scale | 字号 | Size
scale.1 | 标准 | Normal
scale.1.15 | 大 | Large
screen.shift | 上班 | Begin a shift
shift.check | 设备自检 | Devices
shift.continue | 继续本班 | Go on
theme | 日夜 | Theme
theme.auto | 系统 | System
theme.clock | 按钟点 | By the clock
theme.day | 白天 | Day
theme.night | 夜间 | Night
volume | 声音 | Sound
volume.0 | 关 | Off
volume.0.5 | 中 | Half
volume.1 | 大 | Full
kind.by_hand | 人工收费 | By hand
kind.doubtful | 存疑 | Doubtful
kind.paid | 已扣款 | Debited
kind.unpaid | 未收费 | Unpaid
means.cash | 现金 | cash
means.etc_card | ETC 卡 | ETC card
means.mobile | 移动支付 | mobile
means.none | 不收费 | none
means.unpaid | 不收费放行 | none: released
means | 收费方式 | Means
state | 状态 | State
step.fare | 算费核对 | Fare
step.plate | 车牌照片 | Plate
step.read | 读卡 | Card
step.save | 保存放行 | Save
step.vehicle | 车型车种 | Vehicle
stations | 按站名找 | Station by name
stations.hint | 拼音首字母或站名 | Initials or name
stations.none | 没有这个站，换个字母试试 | None
cancel.safe | 还没有扣款 | Not debited yet
why.cancel | 为什么取消？ | Why cancel?
why.gone | 卡怎么了？ | What became of the card?
why.handover | 为什么转特情？ | Why hand over?
why.photo | 为什么没有照片？ | Why no photo?
why.override | 原因 | Reason
why.weigh | 原因 | Reason
state.agreed | 数据保存 | Save
state.cancelled | 已取消 | Cancelled
state.checked | 车牌照片 | Plate
state.classified | 算费 | Fare
state.debiting | 正在扣款 | Debiting
state.disputed | 存疑转人工 | Disputed
state.doubtful | 结果未知 | Unknown outcome
state.evidenced | 车型车种 | Vehicle
state.held | 特情 | Held
state.idle | 等待来车 | Idle
state.preparing | 正在扣款 | Preparing
state.priced | 核对入口站 | Entry check
state.reading | 读卡 | Reading
state.refused | 检查没有通过 | Refused
state.saved | 已保存 | Saved
state.suspended | 挂起 | Put aside
state.unpriced | 算不出 | No fare
state.unreadable | 没有读到 | Not read
event.CardGone | 卡已拿走 | Card gone
event.Cancelled | 取消 | Cancelled
event.ChecksFailed | 检查没有通过 | Checks failed
event.ChecksPassed | 检查通过 | Checks passed
event.DebitConfirmed | 扣款成功 | Debit confirmed
event.DebitNeverHappened | 查清：没有扣款 | Proved: no debit
event.DebitPrepared | 扣款准备好 | Debit prepared
event.DebitRefused | 没有扣款 | Debit refused
event.DebitUnanswered | 结果未知 | Debit unanswered
event.EntryConfirmed | 入口站已核对 | Entry confirmed
event.EntryCorrected | 改入口站 | Entry corrected
event.FareQuoted | 算费完成 | Fare quoted
event.FareUnknown | 算不出 | Fare unknown
event.HandedOver | 转特情 | Handed over
event.MediaUnreadable | 没有读到 | Not read
event.MinimumFareApproved | 站长同意最小费额 | Minimum fare approved
event.OverrideApproved | 站长放过检查 | Findings passed
event.PaidByHand | 人工收费 | Paid by hand
event.PhotoBound | 照片已存 | Photo kept
event.PhotoMissing | 没有拍到照片 | No photo
event.PlateSubmitted | 提交车牌 | Plate submitted
event.ProofRequested | 查清 | Proof asked
event.ProofUnavailable | 还没有查清 | No proof yet
event.QuoteRequested | 算费 | Fare asked
event.ReadRequested | 读卡 | Read
event.ReleasedUnpaid | 不收费放行 | Released unpaid
event.Resumed | 续办 | Resumed
event.SaveRequested | 数据保存 | Save
event.Suspended | 挂起 | Put aside
event.VehicleClassified | 确认车型车种 | Vehicle classified
event.VehicleWeighed | 计重 | Weighed
event.record_resent | 原样重传 | Sent again
event.corrected | 更正 | Corrected
event.refused_confirm_entry | 站Hex码不对，没有执行 | Entry refused
event.refused_correction | 更正没有通过授权 | Correction refused
event.refused_minimum_fare | 站长授权没有通过 | Master refused
event.refused_override | 站长授权没有通过 | Master refused
event.refused_settle_by_hand | 站长授权没有通过 | Master refused
field.amount_fen | 金额 | amount
field.axle_count | 轴数 | axles
field.means | 方式 | means
field.plate | 车牌 | plate
field.reason | 原因 | reason
field.station_hex | 站Hex码 | station
field.tac | TAC | TAC
field.vehicle_class | 车种 | class
field.vehicle_type | 车型 | type
field.weight_kg | 重量 | weight
"""  # noqa: E501

REASONS = {
    "cancel": "车倒走了 操作错了 换车道 其他",
    "gone": "司机拿走卡 卡损坏 车已离开 其他",
    "handover": "无入口信息 卡与标签车牌不一致 在状态名单内 标签未插卡 卡或标签损坏 收费金额调整"
    " 标签被拆卸 余额不够 其他",
    "override": "已核对实车 证件齐全 名单已解除 其他",
    "weigh": "称台故障 跟车过磅 轴数识别错 其他",
    "photo": "相机故障 雨雪遮挡 车已驶过 磁盘满 其他",
    "correct": "车牌录错 车型车种录错 计重录错 金额录错 收费方式录错 其他",
    "resend": "中心已改好 中心要求重传 已与中心核对 其他",
    "pause": "临时离开 设备故障 交接班 其他",
    "close": "设备故障 不能扣款 交通管制 本班结束 其他",
}
"""Written into the record as they stand, so they have one language."""

_WORDS = {
    key: dict(zip(LANGUAGES, words, strict=True))
    for key, *words in (line.split(" | ") for line in _TABLE.strip().splitlines())
}


def speech(request: web.Request) -> Say:
    """In the language that the page asks for: `Accept-Language`, or `lang` where it cannot."""
    asked = request.query.get("lang") or request.headers.get("Accept-Language", "")
    return speaking("en" if asked == "en" else LANGUAGES[0])


def speaking(language: str) -> Say:
    def say(key: str, **holes: object) -> str:
        text = _WORDS[key][language] if key in _WORDS else key.rpartition(".")[2]
        return text.format_map(holes) if holes else text

    return say


def is_known(key: str) -> bool:
    return key in _WORDS
