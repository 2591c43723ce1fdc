"""The page's own words: English, as its code says it, and 中文. `GET /api/ui` hands them out."""

_TABLE = """
OK|确定
Back|返回
Page files are not right: reload|界面文件不对，请重新载入；仍不行请通知维护人员
Reload|重新载入
Go on|仍然继续
Link lost, dialling. What is typed is kept|▲ 与网关断开，正在重连。已输入的内容不会丢；恢复前不能提交。
No answer: perhaps done, perhaps not|网关没有应答，不知道是否已执行：请看清屏幕，再按一次
Over: press again|原因已消除，刚才那一步没有办成，请再按一次
Sign in|登录
Number|工号
Password|密码
Locked|已锁屏
Somebody else|换人
Unlock|解锁
Steps|步骤
This vehicle|本车情况
Type|车型
Chosen {chosen}, card {card}|选的 {chosen}，卡内 {card}：请看实车
Back to {name}|改回{name}
Confirm vehicle|确认车型
Confirm plate|确认车牌
Not "{char}"?|把“{char}”看错了？
Not at this place|这一位不能是这个字
Place {n} {char}|第{n}位 {char}
Code {code}…|编号 {code}…
Vehicle {plate}, card {card}: look|实车 {plate}，卡 {card}：请看照片
Yellow: not sure, look|标黄的字把握不大，请看照片
Place {n} is wrong|第 {n} 位不对，点那一格改
Full: tap a cell, or +new|位数已满：点格子改字，新能源点 +新
✓ A plate|✓ 格式正确
+new|+新
Key what you see|请看实车输入，点格子改字
Place {n} {char}, not sure|第{n}位 {char}，识别不确定
Many letters: look again|字母超过两个，请再看一眼
+new eighth place|+新 第8位（新能源）
Colour|车牌颜色
Enlarge|放大照片
No picture|没有画面
Camera|本机拍照
✓ Taken|✓ 已拍照
No weight|客车不用计重
Total t|总重 吨
Limit t|限重 吨
Axles|轴数
Steady|称台稳定读数
By hand: {reason}|人工：{reason}
▲ No scale: by hand|▲ 称台未连接：请人工填写
▲ Nothing on the scale|▲ 称台上没有车：请开上称台，或人工填写
▲ Not steady: wait, or by hand|▲ 没有稳定读数：等一下，或人工填写
Use scale|改用称台
Reason|原因
Means|收费方式
Sure?|确定吗？
Requests|授权请求
Choose, then press a key|点一个功能，再按要设置的键（Esc 放弃）
Reset|恢复默认
Province code; / row and column|省份编号；/ 后两位是字母的行列
primary|确认
cancel|取消本笔
back|上一步
more|更多
help|按键说明
read|读卡
plate|核对实际车牌
photo|拍照
vehicle|核对车型、车种
class|车种
weigh|人工填写
quote|算费
minimum|最小费额
save|数据保存
suspend|挂起
prove|已放回，查一下
handOver|转特情
cardGone|卡已拿走（登记）
override|请站长放行
settle|请站长授权
stations|按站名找
entryCard|采用卡内入口站
noPhoto|无照片继续
takeOver|接管
What it has not sent is lost.|手持机上没有提交的字会丢。
entry|核对入口站
next|下一辆
stay|停留
goOn|继续办理
devices|设备
history|历史
menu|功能
lock|锁屏
standing|暂停、关闭车道
openLane|恢复收费
PRACTICE|练习
Working…|正在处理…
cash|现金
mobile|移动支付
unpaid|不收费放行
"""  # noqa: E501

_ENGLISH = """
primary|Confirm
cancel|Cancel
back|Back
more|More
help|Keys
read|Read card
plate|Plate
photo|Photo
vehicle|Vehicle
class|Class
weigh|By hand
quote|Ask the fare
minimum|Minimum fare
save|Save
suspend|Put aside
prove|Card is back: prove
handOver|Hand over
cardGone|Card is gone
override|Ask a master
settle|Ask a master
stations|By name
entryCard|Entry of the card
noPhoto|Without photo
takeOver|Take over
entry|Confirm entry
next|Next
stay|Stay
goOn|Go on
devices|Devices
history|History
menu|Menu
lock|Lock
standing|Pause or close
openLane|Open the lane
cash|Cash
mobile|Mobile
unpaid|Unpaid
"""

PAGE_ENGLISH: dict[str, str] = {
    name: english
    for name, _, english in (line.partition("|") for line in _ENGLISH.strip().splitlines())
}
"""What the code calls by a name: deeds and means."""

PAGE_WORDS: dict[str, str] = {
    english: chinese
    for english, _, chinese in (line.partition("|") for line in _TABLE.strip().splitlines())
}
